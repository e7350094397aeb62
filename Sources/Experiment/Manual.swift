public enum Manual { static func home(of key: String) -> String? { nil } }
