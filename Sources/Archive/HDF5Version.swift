// Which libhdf5 writes the skeletons of our files; asked by `retain doctor`.
import CHDF5

/// The HDF5 library.
public enum HDF5 {
  /// Version of the library that is loaded, such as `1.10.8`; nil where it does not answer.
  public static var version: String? {
    var (major, minor, release): (UInt32, UInt32, UInt32) = (0, 0, 0)
    guard H5get_libversion(&major, &minor, &release) >= 0 else { return nil }
    return "\(major).\(minor).\(release)"
  }
}
