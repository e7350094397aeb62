// `retain generate`: text from any model, for looking at what it has become.
import ArgumentParser
import Foundation
import Models
import Runs
import StrictJSON

struct GenerateCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "generate", abstract: "Sample text from any model.",
    discussion:
      "Equal seeds give equal texts, whatever the number of threads. Temperature 0 takes the likeliest token."
  )

  @Argument(help: "Hugging Face folder or Retain .h5 file.")
  var model: String
  @Option(help: "Text to go on from; without it, what stands on the standard input.")
  var prompt: String?
  @Option(help: ArgumentHelp("Most new tokens.", valueName: "n"))
  var maxTokens = 128
  @Option(help: ArgumentHelp("Divides the logits.", valueName: "x"))
  var temperature = 0.8
  @Option(help: ArgumentHelp("Keeps the k likeliest tokens.", valueName: "k"))
  var topK: Int?
  @Option(help: ArgumentHelp("Keeps the likeliest tokens that reach this probability.", valueName: "p"))
  var topP: Double?
  @Option(help: ArgumentHelp("Seed of the draws.", valueName: "n"))
  var seed: UInt64 = 0
  @OptionGroup var threads: ThreadOption
  @Flag(help: "Print JSON.")
  var json = false

  func run() throws {
    guard maxTokens >= 0 else { throw usage("--max-tokens \(maxTokens) is negative") }
    guard temperature >= 0, temperature.isFinite else {
      throw usage("--temperature \(temperature) is not 0 or more")
    }
    if let topK, topK < 1 { throw usage("--top-k \(topK) keeps nothing") }
    if let topP, !(topP > 0 && topP <= 1) { throw usage("--top-p \(topP) is not in (0, 1]") }
    let text = try prompt ?? Self.standardInput()
    let backend = try threads.backend()
    let loaded = try LoadedModel.load(model, on: backend)
    guard let tokenizer = loaded.tokenizer else {
      throw RunError(
        Runs.ExitCode.missingInput, "\(model): there is no tokenizer.json",
        hint: "text cannot be read or written without it")
    }
    let fed = (loaded.prefixToken.map { [$0] } ?? []) + tokenizer.encode(text)
    guard !fed.isEmpty else { throw usage("this model has no token to start from", hint: "give a --prompt") }
    if fed.count > loaded.configuration.contextLength {
      Say.note("the prompt has \(fed.count) tokens; the last \(loaded.configuration.contextLength) are seen")
    }
    let stop = Set([loaded.eosToken, loaded.prefixToken].compactMap { $0 })
    let written = loaded.transformer.generate(
      prompt: fed, maxTokens: maxTokens,
      sampler: Sampler(temperature: temperature, topK: topK, topP: topP, seed: seed), stop: stop, on: backend)
    // Decoded together: a token may stand for a part of a character, or for a space that the start swallows.
    let all = tokenizer.decode(fed + written, skipSpecialTokens: true)
    guard json else {
      Terminal.out(all)
      return
    }
    Say.json([
      "schema": 1, "model": .string(model), "prompt": .string(text), "text": .string(all),
      "prompt_tokens": .integer(fed.count), "tokens": .array(written.map { .integer(Int($0)) }),
      "finished": .bool(written.count < maxTokens), "temperature": .number(temperature), "top_k": JSON(topK),
      "top_p": JSON(topP), "seed": .string(String(seed)),
    ])
  }

  private static func standardInput() throws -> String {
    guard isatty(STDIN_FILENO) == 0 else {
      throw usage("no prompt", hint: "give --prompt TEXT, or text on the standard input")
    }
    let bytes = FileHandle.standardInput.readDataToEndOfFile()
    guard let text = String(validating: bytes, as: UTF8.self) else {
      throw RunError(Runs.ExitCode.badData, "the standard input is not valid UTF-8")
    }
    return text.hasSuffix("\n") ? String(text.dropLast()) : text
  }
}
