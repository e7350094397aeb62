// Lets libhdf5 write everything of a file except the numbers: groups, attributes, reserved space.
// The only file that calls libhdf5. Contiguous early allocation gives every dataset a place that we fill.
import CHDF5
import Synchronization

/// What the skeleton of a file consists of, in the order of creation.
struct HDF5Skeleton {
  enum Value {
    case text(String)
    case integer(Int)
    case number(Double)
    case bool(Bool)
  }
  struct Attribute { let name: String, value: Value }
  struct Group { let path: String, attributes: [Attribute] }
  struct Dataset {
    let path: String, type: ElementType, shape: [Int], byteCount: Int
    let attributes: [Attribute]
  }

  /// Parents before children; the root has the empty path.
  var groups: [Group]
  /// Paths without a leading slash, each below a listed group.
  var datasets: [Dataset]
  static let userBlock = 4096

  /// The library keeps global state; one caller at a time.
  private static let library = Mutex<Bool>(false)

  /// Writes the skeleton into an existing empty file and returns each dataset's place, nil for those
  /// without bytes.
  ///
  /// Two calls with equal content give equal bytes: no times are stored.
  func write(to path: String, shownAs name: String) throws(ArchiveError) -> [Int?] {
    let result = HDF5Skeleton.library.withLock { started -> Result<[Int?], ArchiveError> in
      if !started {
        // The library's exit handler crashes after a failed close, and plug-ins are code from the
        // environment.
        H5dont_atexit()
        H5PLset_loading_state(0)
        started = true
      }
      _ = chdf5_be_quiet()
      var session = Session(path: name)
      do throws(ArchiveError) {
        let places = try session.write(self, to: path)
        session.closeAll()
        return .success(places)
      } catch {
        session.closeAll()
        return .failure(error)
      }
    }
    return try result.get()
  }
}

/// Identifiers that are open during one write, and the checks of every return value.
private struct Session {
  let path: String
  private var open: [(hid_t, @Sendable (hid_t) -> herr_t)] = []

  init(path: String) { self.path = path }

  /// Closes what is still open, newest first; only after a failure is there anything that matters.
  mutating func closeAll() {
    while let (identifier, close) = open.popLast() { _ = close(identifier) }
  }
  func failure(_ action: String) -> ArchiveError {
    var text = [CChar](repeating: 0, count: 300)
    chdf5_reason(&text, text.count)
    let reason = String(decoding: text.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
    // The library tells the cause of a failed system call only inside its text.
    if let range = reason.firstRange(of: "errno = "),
      let code = Int32(reason[range.upperBound...].prefix { $0.isNumber })
    {
      return ArchiveError(code, action, path: path, for: .writing)
    }
    return ArchiveError(
      .io, path: path, reason: "cannot \(action): HDF5 says: \(reason)", hint: "check the disk")
  }
  @discardableResult
  func check(_ result: herr_t, _ action: String) throws(ArchiveError) -> herr_t {
    guard result >= 0 else { throw failure(action) }
    return result
  }
  mutating func keep(_ identifier: hid_t, _ close: @escaping @Sendable (hid_t) -> herr_t, _ action: String)
    throws(ArchiveError) -> hid_t
  {
    guard identifier >= 0 else { throw failure(action) }
    open.append((identifier, close))
    return identifier
  }
  mutating func list(_ identifier: hid_t) throws(ArchiveError) -> hid_t {
    try keep(identifier, { H5Pclose($0) }, "prepare the file")
  }
  mutating func type(_ identifier: hid_t) throws(ArchiveError) -> hid_t {
    try keep(identifier, { H5Tclose($0) }, "describe a type")
  }
  /// Closes the newest identifier and reports whether that worked.
  mutating func closeLast(_ action: String) throws(ArchiveError) {
    guard let (identifier, close) = open.popLast() else { return }
    try check(close(identifier), action)
  }

  mutating func write(_ skeleton: HDF5Skeleton, to temporaryPath: String) throws(ArchiveError) -> [Int?] {
    let setting = "prepare the file"
    let creation = try list(chdf5_file_creation())
    try check(H5Pset_userblock(creation, hsize_t(HDF5Skeleton.userBlock)), setting)
    try check(H5Pset_obj_track_times(creation, false), setting)
    // Compact links and attributes whatever their number: the file then has object headers only, no heaps.
    try check(H5Pset_link_phase_change(creation, 60000, 50000), setting)
    try check(H5Pset_attr_phase_change(creation, 60000, 50000), setting)
    let access = try list(chdf5_file_access())
    try check(H5Pset_libver_bounds(access, H5F_LIBVER_V110, H5F_LIBVER_V110), setting)
    try check(H5Pset_fclose_degree(access, H5F_CLOSE_STRONG), setting)
    try check(H5Pset_alignment(access, 4096, 4096), setting)
    // Nobody else knows the temporary name, and locks fail on some network file systems.
    try check(H5Pset_file_locking(access, false, true), setting)
    let groupCreation = try list(chdf5_group_creation())
    try check(H5Pset_obj_track_times(groupCreation, false), setting)
    try check(H5Pset_link_phase_change(groupCreation, 60000, 50000), setting)
    try check(H5Pset_attr_phase_change(groupCreation, 60000, 50000), setting)
    let datasetCreation = try list(chdf5_dataset_creation())
    try check(H5Pset_obj_track_times(datasetCreation, false), setting)
    try check(H5Pset_attr_phase_change(datasetCreation, 60000, 50000), setting)
    try check(H5Pset_layout(datasetCreation, H5D_CONTIGUOUS), setting)
    try check(H5Pset_alloc_time(datasetCreation, H5D_ALLOC_TIME_EARLY), setting)
    try check(H5Pset_fill_time(datasetCreation, H5D_FILL_TIME_NEVER), setting)
    let linkCreation = try list(chdf5_link_creation())
    try check(H5Pset_char_encoding(linkCreation, H5T_CSET_UTF8), setting)

    let file = try keep(
      H5Fcreate(temporaryPath, chdf5_truncate(), creation, access), { H5Fclose($0) },
      "create the HDF5 structure")
    let openBefore = open.count
    for group in skeleton.groups {
      if group.path.isEmpty {
        for attribute in group.attributes { try add(attribute, to: file) }
        continue
      }
      let identifier = try keep(
        H5Gcreate2(file, group.path, linkCreation, groupCreation, chdf5_default()), { H5Gclose($0) },
        "create the group \(shown(group.path))")
      for attribute in group.attributes { try add(attribute, to: identifier) }
      try closeLast("close the group \(shown(group.path))")
    }
    var places: [Int?] = []
    for dataset in skeleton.datasets {
      places.append(try add(dataset, to: file, links: linkCreation, creation: datasetCreation))
    }
    assert(open.count == openBefore)
    try closeLast("close the HDF5 structure")
    return places
  }

  private mutating func add(
    _ dataset: HDF5Skeleton.Dataset, to file: hid_t, links: hid_t, creation: hid_t
  ) throws(ArchiveError) -> Int? {
    let action = "create the dataset \(shown(dataset.path))"
    let type = try type(of: dataset)
    let space: hid_t
    if dataset.type == .text || dataset.shape.isEmpty {
      space = try keep(H5Screate(H5S_SCALAR), { H5Sclose($0) }, action)
    } else {
      let sides = dataset.shape.map { hsize_t($0) }
      space = try keep(H5Screate_simple(Int32(sides.count), sides, nil), { H5Sclose($0) }, action)
    }
    let identifier = try keep(
      H5Dcreate2(file, dataset.path, type, space, links, creation, chdf5_default()), { H5Dclose($0) }, action)
    for attribute in dataset.attributes { try add(attribute, to: identifier) }
    var place: Int?
    if dataset.byteCount > 0 {
      let address = H5Dget_offset(identifier)
      guard address != chdf5_no_address(), let offset = Int(exactly: address) else { throw failure(action) }
      place = offset
    }
    for _ in 0..<3 { try closeLast(action) }
    return place
  }

  private mutating func type(of dataset: HDF5Skeleton.Dataset) throws(ArchiveError) -> hid_t {
    switch dataset.type {
    case .float32: return try type(chdf5_float32())
    case .float64: return try type(chdf5_float64())
    case .int32: return try type(chdf5_int32())
    case .int64: return try type(chdf5_int64())
    case .uint8: return try type(chdf5_uint8())
    case .uint16: return try type(chdf5_uint16())
    case .uint64: return try type(chdf5_uint64())
    case .text: return try text(length: dataset.shape.first ?? 0)
    case .bfloat16:
      // One sign, eight exponent and seven fraction bits: a real float to every reader, not a blob of 16
      // bits.
      let action = "describe bfloat16"
      let type = try type(chdf5_float32())
      try check(H5Tset_fields(type, 15, 7, 8, 0, 7), action)
      try check(H5Tset_precision(type, 16), action)
      try check(H5Tset_size(type, 2), action)
      try check(H5Tset_ebias(type, 127), action)
      return type
    }
  }
  /// A fixed-length UTF-8 string; HDF5 knows no empty one, so that takes a single zero byte.
  private mutating func text(length: Int) throws(ArchiveError) -> hid_t {
    let type = try type(chdf5_character())
    try check(H5Tset_size(type, max(1, length)), "describe a text")
    try check(H5Tset_strpad(type, H5T_STR_NULLPAD), "describe a text")
    try check(H5Tset_cset(type, H5T_CSET_UTF8), "describe a text")
    return type
  }

  private mutating func add(_ attribute: HDF5Skeleton.Attribute, to object: hid_t) throws(ArchiveError) {
    let action = "add the attribute \(shown(attribute.name))"
    let type: hid_t
    let bytes: [UInt8]
    switch attribute.value {
    case .text(let value):
      bytes = value.isEmpty ? [0] : Array(value.utf8)
      type = try text(length: bytes.count)
    case .integer(let value):
      bytes = withUnsafeBytes(of: Int64(value).littleEndian) { Array($0) }
      type = try self.type(chdf5_int64())
    case .number(let value):
      bytes = withUnsafeBytes(of: value.bitPattern.littleEndian) { Array($0) }
      type = try self.type(chdf5_float64())
    case .bool(let value):
      // The enumeration that h5py writes for a boolean, so that it reads one.
      bytes = [value ? 1 : 0]
      let base = try self.type(chdf5_int8())
      type = try self.type(H5Tenum_create(base))
      var member: Int8 = 0
      try check(H5Tenum_insert(type, "FALSE", &member), action)
      member = 1
      try check(H5Tenum_insert(type, "TRUE", &member), action)
    }
    let space = try keep(H5Screate(H5S_SCALAR), { H5Sclose($0) }, action)
    let identifier = try keep(
      H5Acreate2(object, attribute.name, type, space, chdf5_default(), chdf5_default()), { H5Aclose($0) },
      action)
    try check(H5Awrite(identifier, type, bytes), action)
    var closing = 3
    if case .bool = attribute.value { closing = 4 }
    for _ in 0..<closing { try closeLast(action) }
  }
}
