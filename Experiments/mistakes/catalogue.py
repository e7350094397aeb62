"""Mistakes that public continual-learning code makes, each as a change of Retain's sources.

A change is (file under Sources, text that is there, text in its place). `made("NAME")` in the new text is true in a run
that makes this mistake, so that one build holds them all.
"""
from dataclasses import dataclass


@dataclass
class Mistake:
    name: str
    method: str
    # What is done wrong.
    title: str
    # Where it is found, or why it is made.
    seen: str
    # The test that must fail.
    test: str
    changes: list


MOMENTS = "Curvature/GradientMoments.swift"
PASS = "Curvature/FisherPass.swift"
FISHER = "Curvature/DiagonalFisher.swift"
FACTORED = "Curvature/KroneckerCurvature.swift"
EWC = "Continual/Methods/ElasticWeightConsolidation.swift"
SI = "Continual/Methods/SynapticIntelligence.swift"
MAS = "Continual/Methods/MemoryAwareSynapses.swift"
WALK = "Continual/Methods/RiemannianWalk.swift"
LWF = "Continual/Methods/LearningWithoutForgetting.swift"
DER = "Continual/Methods/DarkExperienceReplay.swift"
MEMORY = "Continual/Replay/GradientMemory.swift"
REHEARSAL = "Continual/Replay/Rehearsal.swift"
BUFFER = "Continual/Replay/ReplayBuffer.swift"
STEP = "Training/TrainStep.swift"
TOKENS = "CKernels/tokens.c"
REFERENCE = "TensorCore/Reference/Reference+Tokens.swift"

FISHER_ = "Fisher information"
EWC_ = "EWC"
KFAC_ = "Kronecker EWC"
SI_ = "SI"
MAS_ = "MAS"
LWF_ = "LwF"
REPLAY_ = "rehearsal"
GEM_ = "GEM, A-GEM"


def joining_the_penalty(name):
    """What adds a method's own pull to the gradient that it observes."""
    return (
        f"      if made(\"{name}\") {{\n"
        "        let way = backend.empty(1, range.count)\n"
        "        backend.subtract(anchor.slice(range), from: previous.slice(range), into: way)\n"
        "        backend.addProduct(importance.slice(range), way, scaled: Float(2 * strength), into: gradient)\n      }\n")


ALL = [
    Mistake(
        "fisher-batch-mean", FISHER_, "the gradient is squared after a batch's sum",
        "Avalanche, PyCIL, ContinualLM, TRACE, LLMCL, LLM_EWC", "sinkEqualsLoopOverSingleSequences",
        [
            (MOMENTS, "rows.segments.longest <= 1", '!made("fisher-batch-mean") && rows.segments.longest <= 1'),
            (MOMENTS, "accumulateSquaredProducts(a, b, segments: rows.segments,",
             "accumulateSquaredProducts(\n        a, b, segments: made(\"fisher-batch-mean\") "
             "? Segments(lengths: [a.rows]) : rows.segments,"),
        ]),
    Mistake(
        "fisher-weighted-labels", FISHER_, "the data's labels, weighted by the model's probability of them",
        "Mammoth", "observedSquares",
        [
            (PASS, "public enum FisherPass {",
             """struct WeightedSeed: HeadSeed {
  mutating func seed(
    _ logits: Tensor, targets: [Int32], rows: [Int32], losses: Tensor, on backend: any Backend
  ) {
    backend.crossEntropy(logits, targets: targets, scale: 1, losses: losses)
    let values = losses.buffer
    for row in targets.indices where targets[row] >= 0 {
      backend.scale(logits.rows(row..<row + 1), by: Float(Maths.exp(-0.5 * Double(values[row]))))
    }
  }
}

public enum FisherPass {"""),
            (PASS, "      case .observed: pass(",
             "      case .observed where made(\"fisher-weighted-labels\"): pass(WeightedSeed(), isLast: true)\n"
             "      case .observed: pass("),
        ]),
    Mistake(
        "fisher-squared-probability", FISHER_, "the expectation over labels has p² for a weight",
        "the gradient is weighted by p, then squared", "expectedDiagonal",
        [(PASS, "-Double(values[row]) / 2)", '-Double(values[row]) / (made("fisher-squared-probability") ? 1 : 2))')]),
    Mistake(
        "fisher-data-labels", FISHER_, "the data's labels under the name of the Fisher information",
        "most public code", "sampledApproachesExpected",
        [(PASS, "          pass(SampledSeed(",
          "          if made(\"fisher-data-labels\") {\n"
          "            pass(CrossEntropySeed(scale: 1), isLast: draw == count - 1)\n            continue\n          }\n"
          "          pass(SampledSeed(")]),
    Mistake(
        "fisher-per-sequence", FISHER_, "divided by batches or sequences, whatever their length", "Mammoth",
        "isTheCurvatureOfTheDivergence",
        [(FISHER, "(sink.sums, count.scored * count.draws)",
          '(sink.sums, (made("fisher-per-sequence") ? count.sequences : count.scored) * count.draws)')]),
    Mistake(
        "fisher-masked-counted", FISHER_, "masked tokens count in the denominator", "means over whole padded rows",
        "isTheCurvatureOfTheDivergence",
        [(PASS, "seen.scored += batch.scored", 'seen.scored += made("fisher-masked-counted") ? batch.count : batch.scored')]),
    Mistake(
        "fisher-tied-apart", FISHER_, "both uses of a tied embedding are squared apart", "hooks on single layers",
        "sinkEqualsLoopOverSingleSequences",
        [(MOMENTS, "if weight.uses > 1 { hold(", 'if weight.uses > 1, !made("fisher-tied-apart") { hold(')]),
    Mistake(
        "fisher-clamped", FISHER_, "clamped to 10⁻⁴", "PyCIL", "softmaxRegressionHasAClosedForm",
        [(FISHER, "    try FisherError.check(squares,",
          "    if made(\"fisher-clamped\") {\n"
          "      let numbers = squares.buffer\n"
          "      for i in numbers.indices { numbers[i] = min(numbers[i], 1e-4) }\n    }\n"
          "    try FisherError.check(squares,")]),
    Mistake(
        "fisher-nan-through", FISHER_, "what is not finite is passed over in silence", "ContinualLM, LLM_EWC",
        "whatIsNotFiniteIsRefused",
        [(PASS, "guard !backend.dot(values, values).isFinite else",
          'guard !made("fisher-nan-through"), !backend.dot(values, values).isFinite else')]),
    Mistake(
        "fisher-one-more", FISHER_, "one more example than is asked for, divided by as many as are asked for",
        "van de Ven", "passesTakeExactlyAsMany",
        [("Continual/MethodCatalog.swift", "min(count, sequences.count)",
          'min(made("fisher-one-more") ? count + 1 : count, sequences.count)'),
         (PASS, "where seen.sequences < examples {",
          'where made("fisher-one-more") ? seen.sequences <= examples : seen.sequences < examples {')]),
    Mistake(
        "ewc-twice", EWC_, "λ without the factor ½ of the posterior", "Avalanche, Mammoth, Hsu",
        "penaltyIsZeroAtTheAnchorAndHandComputedBesideIt",
        [(EWC, "strength: strength, curvature: curvature,",
          'strength: made("ewc-twice") ? 2 * strength : strength, curvature: curvature,')]),
    Mistake(
        "ewc-old-anchor", EWC_, "online: the anchor stays where the first past was", "the anchor is copied once",
        "sequentialEqualsJoint",
        [(EWC, "      backend.copy(store.values, into: anchor)\n    case .separate:",
          "      if !made(\"ewc-old-anchor\") { backend.copy(store.values, into: anchor) }\n    case .separate:")]),
    Mistake(
        "ewc-overwritten", EWC_, "online: the new Fisher takes the old one's place", "one buffer for the importance",
        "sequentialEqualsJoint",
        [(EWC, "      backend.scale(curvature, by: Float(settings.decay))\n",
          "      if made(\"ewc-overwritten\") { backend.fill(curvature, 0) }\n"
          "      backend.scale(curvature, by: Float(settings.decay))\n")]),
    Mistake(
        "ewc-no-decay", EWC_, "online: γ is ignored", "", "onlineForgetsByItsDecay",
        [(EWC, "by: Float(settings.decay))", 'by: made("ewc-no-decay") ? 1 : Float(settings.decay))')]),
    Mistake(
        "ewc-clipped", EWC_, "clipping by the global norm scales the penalty with the task's gradient",
        "any penalty that is added to the loss", "decayClippingAndPullBalance",
        [(STEP, "let all = pulls + methods.flatMap(\\.pulls)\n",
          "let all = (pulls + methods.flatMap(\\.pulls)).map {\n"
          "      made(\"ewc-clipped\")\n"
          "        ? QuadraticPull(\n"
          "          strength: $0.strength * step.gradientScale, curvature: $0.curvature, anchor: $0.anchor, form: $0.form,\n"
          "          constant: $0.constant) : $0\n    }\n")]),
    Mistake(
        "ewc-in-loss", EWC_, "the penalty is inside the loss that is reported", "LLM_EWC", "lossesAreTheTasksAlone",
        [(STEP, "      loss: loss, softLoss: softLoss, penalty: penalty,",
          '      loss: made("ewc-in-loss") ? loss + penalty : loss, softLoss: softLoss, penalty: penalty,')]),
    Mistake(
        "kfac-clipped", KFAC_, "clipping scales the pull of the factors", "any penalty that is added to the loss",
        "factoredPullsAreNotClipped",
        [(EWC, "scaled: strength / step.gradientScale", 'scaled: made("kfac-clipped") ? strength : strength / step.gradientScale')]),
    Mistake(
        "kfac-left-in", KFAC_, "what pulls stays in the gradient that other methods look at", "Avalanche's SI, van de Ven",
        "whatPullsIsNotInTheObservedGradient",
        [(EWC, "    for (parameter, gradient) in bare { backend.copy(",
          "    for (parameter, gradient) in bare where !made(\"kfac-left-in\") {\n      backend.copy("),
         (EWC, "into: parameter.view(of: step.accumulator.gradient)) }", "into: parameter.view(of: step.accumulator.gradient))\n    }")]),
    Mistake(
        "kfac-sums-multiplied", KFAC_, "(A₁ + A₂) ⊗ (G₁ + G₂) for the sum of two pasts", "factors are accumulated side by side",
        "mergingIsTheNearestProduct",
        [(FACTORED, "    return Block(\n      parameter: new.parameter, left: mix(",
          "    if made(\"kfac-sums-multiplied\") {\n"
          "      return Block(\n"
          "        parameter: new.parameter, left: mix(left.0, left.1, (keep, 1)), right: mix(right.0, right.1, (1, 1)))\n    }\n"
          "    return Block(\n      parameter: new.parameter, left: mix(")]),
    Mistake(
        "si-penalty-in-gradient", SI_, "the path is taken along a gradient that holds the penalty", "Avalanche, van de Ven",
        "pathsOfLaterStagesHoldNoPenalty",
        [(SI, "      backend.addPath(\n        gradient: step.accumulator.gradient.slice(range),",
          "      let gradient = backend.copied(step.accumulator.gradient.slice(range))\n"
          + joining_the_penalty("si-penalty-in-gradient")
          + "      backend.addPath(\n        gradient: gradient,")]),
    Mistake(
        "si-negative-kept", SI_, "negative importances stay", "Avalanche, van de Ven, Mammoth",
        "pathUsesTheTaskGradientAndTheWholeUpdate",
        [(SI, "where omega[i] > 0 {", 'where omega[i] > 0 || made("si-negative-kept") {')]),
    Mistake(
        "si-overwritten", SI_, "Ω of the new stage takes the old one's place", "divyam3897/UCL", "importanceAddsUpOverStages",
        [(SI, "        sums[i] += omega[i] /",
          "        if made(\"si-overwritten\") { sums[i] = 0 }\n        sums[i] += omega[i] /")]),
    Mistake(
        "si-clamped", SI_, "Ω is at most 0.001", "Avalanche", "importanceAddsUpOverStages",
        [(SI, "omega[i] / (distance * distance + xi)",
          'min(made("si-clamped") ? 0.001 : .infinity, omega[i] / (distance * distance + xi))')]),
    Mistake(
        "si-half", SI_, "half of the penalty c Σ Ω (θ − θ*)²", "Avalanche", "pathUsesTheTaskGradientAndTheWholeUpdate",
        [(SI, "strength: Float(2 * strength), curvature", 'strength: Float((made("si-half") ? 1 : 2) * strength), curvature')]),
    Mistake(
        "mas-batch-mean", MAS_, "the magnitude of a batch's mean gradient", "Avalanche, Hsu", "masOfSequencesIsALoop",
        [
            (MOMENTS, "rows.segments.longest <= 1", '!made("mas-batch-mean") && rows.segments.longest <= 1'),
            (MOMENTS, "accumulateProductMagnitudes(a, b, segments: rows.segments,",
             "accumulateProductMagnitudes(\n        a, b, segments: made(\"mas-batch-mean\") "
             "? Segments(lengths: [a.rows]) : rows.segments,"),
        ]),
    Mistake(
        "mas-mean-output", MAS_, "the mean of the outputs instead of their squared norm", "Hsu", "masOfALinearMapIsClosedForm",
        [(MAS, "      backend.scale(logits, by: 2)",
          "      if made(\"mas-mean-output\") {\n        backend.fill(logits, 1 / Float(logits.columns))\n"
          "      } else {\n        backend.scale(logits, by: 2)\n      }")]),
    Mistake(
        "mas-moving-average", MAS_, "a moving average over pasts instead of their sum", "Avalanche", "masAddsUpOverPasts",
        [(MAS, "if let importance { backend.add(",
          "if let importance {\n      if made(\"mas-moving-average\") {\n        backend.scale(importance, by: 0.5)\n"
          "        backend.scale(sink.sums, by: 0.5)\n      }\n      backend.add(")]),
    Mistake(
        "rwalk-last-score", "RWalk", "the score of the last stage alone", "scores are averaged over stages in the paper",
        "walkScoresAreAveragedOverStages",
        [(WALK, "scope.past > 1 ? 0.5 : 1", 'scope.past > 1 && !made("rwalk-last-score") ? 0.5 : 1')]),
    Mistake(
        "rwalk-batch-mean", "RWalk", "the running Fisher has the squared mean gradient of a batch of any size",
        "code without the factor N", "walkScoresByHand",
        [(WALK, "scaled: alpha * Float(step.targets)", 'scaled: alpha * (made("rwalk-batch-mean") ? 1 : Float(step.targets))')]),
    Mistake(
        "rwalk-penalty-in-gradient", "RWalk", "Fisher and path are taken along a gradient that holds the penalty",
        "TRACE, LLMCL", "pathsOfLaterStagesHoldNoPenalty",
        [(WALK, "      let gradient = step.accumulator.gradient.slice(range)\n",
          "      let gradient = backend.copied(step.accumulator.gradient.slice(range))\n"
          + joining_the_penalty("rwalk-penalty-in-gradient"))]),
    Mistake(
        "lwf-without-square", LWF_, "no factor T²", "TRACE, Avalanche", "divergenceHasTheTeacherFirst",
        [
            (TOKENS, "  *soft_loss = temperature * temperature * total;\n  float factor = scale * soft * temperature,",
             "  if (made(\"lwf-without-square\")) {\n    soft /= temperature * temperature;\n    total /= temperature * temperature;\n  }\n"
             "  *soft_loss = temperature * temperature * total;\n  float factor = scale * soft * temperature,"),
            (REFERENCE, "let (weight, temperature) = (Double(soft.soft[row]), Double(soft.temperatures[row]))",
             "let temperature = Double(soft.temperatures[row])\n"
             "      let weight =\n        Double(soft.soft[row]) / (made(\"lwf-without-square\") && temperature > 0 ? temperature * temperature : 1)"),
            (REFERENCE, "= temperature * temperature * divergence",
             '= (made("lwf-without-square") ? 1 : temperature * temperature) * divergence'),
        ]),
    Mistake(
        "lwf-swapped", LWF_, "KL(model ‖ teacher): teacher and student have changed places", "TRACE",
        "divergenceHasTheTeacherFirst",
        [
            (TOKENS, "  // The classes that were not kept count as one outcome.\n",
             "  int swapped = made(\"lwf-swapped\");\n"
             "  if (swapped) {\n    total = 0;\n"
             "    for (long k = 0; k < width; k++) total += ck_exp(logarithms[k]) * (logarithms[k] - values[k]);\n  }\n"
             "  // The classes that were not kept count as one outcome.\n"),
            (TOKENS, "    row[classes[k]] += factor * (tail_ratio * ck_exp(logarithms[k]) - ck_exp(values[k]));",
             "    float p = ck_exp(logarithms[k]);\n"
             "    row[classes[k]] += factor * (swapped ? p * (logarithms[k] - values[k] - total) : tail_ratio * p - ck_exp(values[k]));"),
        ]),
    Mistake(
        "lwf-no-teacher", LWF_, "the model as it is now teaches itself", "the teacher shares the student's tensors",
        "rememberedAnswersAreThoseOfTheTeacher",
        [(LWF, "    store.with(teacher) {", '    store.with(made("lwf-no-teacher") ? backend.copied(store.values) : teacher) {')]),
    Mistake(
        "lwf-by-number", LWF_, "stored answers are found by their number, though the order changes", "TRACE",
        "rememberedAnswersAreThoseOfTheTeacher",
        [(LWF, "          inputs: exemplar.inputs, isScored:",
          "          inputs: made(\"lwf-by-number\") ? [Int32(index)] : exemplar.inputs,\n          isScored:")]),
    Mistake(
        "lwf-by-sequence", LWF_, "averaged over the sequences of a batch instead of its tokens", "TRACE", "unscoredPlacesShiftNoTeacher",
        [(LWF, "exemplars[index].softWeight) = (soft, alpha)",
          "exemplars[index].softWeight) = (\n      soft, made(\"lwf-by-sequence\") ? alpha * Float(exemplars[index].scored) : alpha)")]),
    Mistake(
        "replay-of-new", REPLAY_, "r of the new tokens instead of the final mix", "9.1 % where 10 % were asked for",
        "shareIsExactToWithinOneSequence",
        [(REHEARSAL, "Double(tokens) * ratio / (1 - ratio)", 'Double(tokens) * ratio / (made("replay-of-new") ? 1 : 1 - ratio)')]),
    Mistake(
        "replay-newest", REPLAY_, "the buffer keeps what came last", "a ring of sequences", "inclusionIsUniform",
        [(BUFFER, "      let draw = stream.next()", "      let draw = made(\"replay-newest\") ? UInt64.max / 2 - UInt64(seen + index) : stream.next()")]),
    Mistake(
        "mir-plain-gradient", REPLAY_, "MIR: the virtual step is along the plain gradient, not the optimizer's",
        "Avalanche", "previewIsTheNextStep",
        [(STEP, "      optimizer.preview(along: gradient, learningRate: learningRate, gradientScale: scale, into: values)",
          "      optimizer.preview(along: gradient, learningRate: learningRate, gradientScale: scale, into: values)\n"
          "      if made(\"mir-plain-gradient\") {\n"
          "        backend.copy(network.parameters.values, into: values)\n"
          "        backend.add(gradient.gradient, scaled: -Float(learningRate) * scale, into: values)\n      }")]),
    Mistake(
        "der-one-draw", REPLAY_, "DER++: both of its terms look at the same draw", "the second draw is saved",
        "derDrawsTwice",
        [(DER, 'plain.begin(scope.random.forked("plain"))', 'plain.begin(scope.random.forked(made("der-one-draw") ? "dark" : "plain"))')]),
    Mistake(
        "agem-before-optimizer", GEM_, "the gradient is projected, and then goes through the optimizer's moments",
        "most public code", "projectedStepsRaiseNoMemory",
        [
            (MEMORY, "    guard let previous else { return }\n    asked += 1",
             "    guard let previous, !made(\"agem-before-optimizer\") else { return }\n    asked += 1"),
            (MEMORY, "    if let previous { backend.copy(store.values, into: previous) }",
             "    if made(\"agem-before-optimizer\") {\n"
             "      for reference in references {\n"
             "        var (slope, square) = (0.0, 0.0)\n"
             "        for parameter in step.moving where reference.hasGradient(parameter) {\n"
             "          let own = reference.gradient.slice(parameter.range)\n"
             "          slope += backend.dot(own, step.accumulator.gradient.slice(parameter.range))\n"
             "          square += backend.dot(own, own)\n        }\n"
             "        guard slope < 0, square > 0 else { continue }\n"
             "        for parameter in step.moving where reference.hasGradient(parameter) {\n"
             "          backend.add(\n"
             "            reference.gradient.slice(parameter.range), scaled: -Float(slope / square),\n"
             "            into: step.accumulator.gradient.slice(parameter.range))\n        }\n      }\n    }\n"
             "    if let previous { backend.copy(store.values, into: previous) }"),
        ]),
    Mistake(
        "agem-empty-sample", GEM_, "a sample shared out among many pasts is empty", "Avalanche", "smallSamplesAreNeverEmpty",
        [(MEMORY, "if !sample.isEmpty, tokens +", 'if !sample.isEmpty || made("agem-empty-sample"), tokens +')]),
    Mistake(
        "gem-last-batch", GEM_, "the memory's gradient is that of its last batch", "TRACE", "projectedStepsRaiseNoMemory",
        [(MEMORY, "      for batch in batches { _ =",
          '      for batch in made("gem-last-batch") ? Array(batches.suffix(1)) : batches { _ =')]),
    Mistake(
        "gem-stale", GEM_, "memories' gradients are not taken again at the parameters of the step", "TRACE, LLMCL",
        "projectedStepsRaiseNoMemory",
        [(MEMORY, "    for (memory, reference) in zip(memories, references) {\n      reference.reset()",
          "    for (memory, reference) in zip(memories, references) where !made(\"gem-stale\") || asked == 0 {\n      reference.reset()")]),
    Mistake(
        "gem-per-tensor", GEM_, "one projection for every tensor", "TRACE, LLMCL", "allParametersShareOneWeight",
        [(MEMORY, "    let weights = Self.weights(gram, slopes,",
          "    if made(\"gem-per-tensor\") {\n"
          "      for parameter in moving {\n"
          "        let known = references.filter { $0.hasGradient(parameter) }.map { $0.gradient.slice(parameter.range) }\n"
          "        let gram = known.map { a in known.map { backend.dot(a, $0) } }\n"
          "        let slopes = known.map { backend.dot($0, update.slice(parameter.range)) }\n"
          "        let own = Self.weights(gram, slopes, floor: margin * step.learningRate)\n"
          "        for (gradient, weight) in zip(known, own) {\n"
          "          backend.add(gradient, scaled: -Float(weight), into: store.values.slice(parameter.range))\n        }\n      }\n"
          "      return\n    }\n"
          "    let weights = Self.weights(gram, slopes,")]),
    Mistake(
        "gem-no-margin", GEM_, "the memory strength is left out", "", "theDefaultMarginHoldsTheStep",
        [(MEMORY, "floor: margin * step.learningRate)\n    for (reference",
          'floor: made("gem-no-margin") ? 0 : margin * step.learningRate)\n    for (reference')]),
    Mistake(
        "gem-zero-gradient", GEM_, "division by the norm of a memory's gradient that is 0", "code without an ε",
        "degenerateMemoriesLeaveTheNearestStep",
        [(MEMORY, "      for i in w.indices where gram[i][i] > 0 {",
          '      for i in w.indices where gram[i][i] > 0 || made("gem-zero-gradient") {'),
         (MEMORY, "max(floor, rest / gram[i][i])",
          'made("gem-zero-gradient") ? max(rest / gram[i][i], floor) : max(floor, rest / gram[i][i])')]),
    Mistake(
        "wise-reversed", "merging", "WiSE-FT: α is the base's share", "both conventions are in use", "stagesGoPartOfTheWay",
        [("Continual/Methods/WeightInterpolation.swift", "scaled: Float(1 - alpha)", 'scaled: Float(made("wise-reversed") ? alpha : 1 - alpha)')]),
    Mistake(
        "dare-not-rescaled", "merging", "DARE: what stays is not divided by its share", "", "dareKeepsTheSumInExpectation",
        [("Merging/Methods/DareMerge.swift", "Float(sum / density)", 'Float(sum / (made("dare-not-rescaled") ? 1 : density))')]),
    Mistake(
        "ties-whole-mean", "merging", "TIES: the mean is over all models, not over those of the elected sign", "",
        "tiesOfThreeModelsByHand",
        [("Merging/Methods/TiesMerge.swift", "      let sum = up + down\n",
          "      let sum = up + down\n      if made(\"ties-whole-mean\") { (ups, downs) = (thresholds.count, thresholds.count) }\n")]),
    Mistake(
        "forgetting-with-last", "metrics", "the best row may be the last one, so that forgetting is never negative", "Mammoth",
        "accuracyIsTurnedAround",
        [("Ledger/RetentionTerms.swift", "forgetting = sign * (final - best)",
          'forgetting = made("forgetting-with-last") ? max(0, sign * (final - best)) : sign * (final - best)')]),
]
