// The table of merges: to add one, write its file and add its line here.

public enum MergeCatalog {
  public static var methods: [any MergeMethod.Type] {
    [
      LinearMerge.self,
      TaskArithmetic.self,
      TiesMerge.self,
      DareMerge.self,
      FisherMerge.self,
    ]
  }
  public static var cards: [MergeCard] { methods.map { $0.card } }
  public static func method(named name: String) -> (any MergeMethod.Type)? { methods.first { $0.card.name == name } }
}
