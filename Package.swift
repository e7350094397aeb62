// swift-tools-version: 6.2
// The manifest is the map: targets stand floor by floor, and a floor imports only from itself and floors below it.
import Foundation
import PackageDescription

// oneDNN is linked where it is installed; without it OpenBLAS computes every product, in fp32.
let oneDNNHeaders = ["/usr/include", "/usr/local/include"].map { $0 + "/oneapi/dnnl/dnnl.h" }
let hasOneDNN = oneDNNHeaders.contains { FileManager.default.fileExists(atPath: $0) }

let strict: [SwiftSetting] = [.treatAllWarnings(as: .error)]

func floor(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
  .target(name: name, dependencies: dependencies, swiftSettings: strict)
}
func tests(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
  .testTarget(
    name: name, dependencies: dependencies + ["TestKit"],
    swiftSettings: strict)
}
let argumentParser = Target.Dependency.product(
  name: "ArgumentParser", package: "swift-argument-parser")
let yams = Target.Dependency.product(name: "Yams", package: "Yams")

let package = Package(
  name: "retain",
  products: [.executable(name: "retain", targets: ["retain"])],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
  ],
  targets: [
    // Floor 0, foreign ground: what Swift cannot say itself.
    /// Lets Swift see cblas.
    .systemLibrary(name: "COpenBLAS", pkgConfig: "openblas", providers: [.apt(["libopenblas-dev"])]),
    /// Lets Swift see HDF5; gives every macro that Swift cannot import a function.
    .systemLibrary(name: "CHDF5", pkgConfig: "hdf5-serial", providers: [.apt(["libhdf5-dev"])]),
    /// Lets Swift read and write gzip.
    .systemLibrary(name: "CZlib", pkgConfig: "zlib", providers: [.apt(["zlib1g-dev"])]),
    /// Matrix products of oneDNN, fp32 and bf16, by either of its C interfaces; empty where it is not installed.
    .target(
      name: "COneDNN", cSettings: hasOneDNN ? [.define("RETAIN_HAS_ONEDNN")] : [],
      linkerSettings: hasOneDNN ? [.linkedLibrary("dnnl"), .linkedLibrary("dl")] : []),
    /// Our single-threaded C kernels on pointers and sizes.
    .target(
      name: "CKernels",
      linkerSettings: [.linkedLibrary("m")]),

    /// CRC32C and SHA-256 with processor instructions where there are any.
    .target(name: "CChecksums"),

    // Floor 1, nouns.
    /// A strict JSON parser and writer that keeps keys byte for byte and names offsets.
    floor("StrictJSON", []),
    /// What a tensor is, what a backend must be able to do, and the slow, obviously right backend.
    floor("TensorCore", []),
    /// The events of a run, measurements and the retention metrics computed from them.
    floor("Ledger", ["StrictJSON"]),

    // Floor 2, hands.
    /// The fast backend: oneDNN and OpenBLAS for products, CKernels for the rest, Swift for scheduling.
    floor("TensorCPU", ["TensorCore", "CKernels", "COneDNN", "COpenBLAS"]),
    /// HDF5 checkpoints and safetensors: named tensors on disk.
    floor("Archive", ["StrictJSON", "CHDF5", "CChecksums"]),
    /// Text to tokens to packed rows.
    floor("Corpus", ["StrictJSON", "CZlib"]),

    // Floor 3, networks.
    /// Parameters, layers with their pullbacks, gradient sinks, losses.
    floor("Layers", ["TensorCore"]),
    /// One file per architecture and the table that lists them; loading from and saving to folders.
    floor("Models", ["Layers", "Corpus", "Archive", "StrictJSON", "TensorCore"]),

    // Floor 4, learning.
    /// The step, optimizers, adapters, schedules, and the hooks that methods fill.
    floor("Training", ["Models", "Layers", "Corpus", "Archive", "TensorCore"]),
    /// Estimates of how much each parameter matters.
    floor("Curvature", ["Models", "Layers", "Corpus", "Archive", "TensorCore"]),
    /// Questions asked of a model between stages, answered as measurements.
    floor("Probes", ["Models", "Layers", "Corpus", "Ledger", "StrictJSON", "TensorCore"]),
    /// One file per continual-learning method, replay buffers, and the table that lists them.
    floor("Continual", ["Training", "Curvature", "Models", "Layers", "Corpus", "Archive", "TensorCore"]),
    /// One file per way of averaging the weights of models, and the table that lists them.
    floor("Merging", ["Curvature", "Models", "Layers", "Corpus", "Ledger", "TensorCore"]),

    // Floor 5, experiments.
    /// YAML to an immutable plan, with every mistake located.
    floor("Experiment", ["Continual", "Training", "Ledger", "StrictJSON", "TensorCore", yams]),
    /// Plan to objects to stages to ledger and checkpoints; the only place that knows everybody.
    floor(
      "Runs",
      [
        "Experiment", "Continual", "Merging", "Training", "Curvature", "Probes", "Models", "Layers", "Corpus",
        "Archive", "Ledger", "StrictJSON", "TensorCPU", "TensorCore", "Reports",
      ]),
    /// Many runs of one plan: search, rungs, Pareto front.
    floor("Tuning", ["Runs", "Experiment", "Archive", "Ledger", "StrictJSON", "Reports", "TensorCore"]),
    /// Ledger and results to Markdown and HTML with tables and charts.
    floor("Reports", ["Ledger", "StrictJSON"]),

    // Floor 6, the door.
    /// The command line, nothing else.
    .executableTarget(
      name: "retain",
      dependencies: [
        "Runs", "Tuning", "Reports", "Experiment", "Continual", "Merging", "Probes", "Curvature", "Training", "Models",
        "Layers", "Corpus", "Archive", "Ledger", "StrictJSON", "TensorCPU", "TensorCore", "CKernels", argumentParser,
      ], swiftSettings: strict),

    // Tests mirror the targets.
    .target(
      name: "TestKit", dependencies: ["TensorCore", "StrictJSON"], path: "Tests/TestKit",
      swiftSettings: strict),
    tests("StrictJSONTests", ["StrictJSON"]),
    tests("TensorCoreTests", ["TensorCore", "TensorCPU", "CKernels"]),
    tests("LedgerTests", ["Ledger", "StrictJSON"]),
    tests("ArchiveTests", ["Archive", "CChecksums", "StrictJSON"]),
    tests("CorpusTests", ["Corpus", "StrictJSON"]),
    tests(
      "ModelsTests", ["Models", "Curvature", "StrictJSON", "Layers", "Corpus", "Archive", "TensorCPU", "TensorCore"]),
    tests("CurvatureTests", ["Curvature", "Models", "Layers", "StrictJSON", "TensorCPU", "TensorCore"]),
    tests("ContinualTests", ["Continual", "Curvature", "Training", "Models", "Layers", "TensorCPU", "TensorCore"]),
    tests(
      "MergingTests", ["Merging", "Curvature", "Models", "Layers", "Corpus", "Ledger", "TensorCPU", "TensorCore"]),
    tests("ProbesTests", ["Probes", "Models", "Corpus", "Ledger", "TensorCPU", "TensorCore"]),
    tests("ExperimentTests", ["Experiment", "Continual", "Training", "StrictJSON"]),
    tests("ReportsTests", ["Reports", "Ledger", "StrictJSON"]),
    tests(
      "RunsTests",
      [
        "Runs", "Tuning", "Probes", "Experiment", "Continual", "Archive", "Ledger", "Corpus", "StrictJSON", "Models",
        "TensorCPU", "TensorCore",
      ]),
  ],
  swiftLanguageModes: [.v6],
  cLanguageStandard: .c11
)
