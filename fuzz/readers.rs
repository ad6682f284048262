//! What is fuzzed: each function reads bytes as a user could give them, and goes on with what was
//! read as the commands do. None may panic, take memory beyond its limits or run without end. The
//! fuzzers call them, and so does the suite (`tests/it/hostile.rs`) with seeds that it damages.

use std::io::{Cursor, Write};
use std::path::Path;
use std::sync::Arc;

use netc::diagnostic::Sources;
use netc::elaborate::{Options, elaborate};
use netc::interop::onnx::{self, ModelFile};
use netc::interop::text;
use netc::ir;
use netc::weights::entries::Buffer;

/// Weights are looked at up to this number of elements: reading them costs memory by right.
const LOOKED_AT: usize = 1 << 20;

/// An ONNX model: to a graph, which holds what all graphs hold, and on to text.
pub fn onnx(data: &[u8]) {
    let Ok(file) = ModelFile::from_bytes(Path::new("/nowhere/model.onnx"), data.to_vec()) else { return };
    let Ok(graph) = onnx::import_file(&file, &onnx::Options::default()) else { return };
    ir::verify(&graph).expect("what is imported verifies");
    let Ok(written) = text::write(&graph, "") else { return };
    let mut sources = Sources::default();
    let root = sources.add("model.net", written.text);
    let none = |_: &Path| Err(std::io::ErrorKind::NotFound.into());
    // Networks beyond the language's limits are refused when the text is read.
    let _ = elaborate(&mut sources, root, &Options { loader: &none, ..Options::default() });
}

/// A file of weights of any format.
pub fn weights(data: &[u8]) {
    let buffer: Buffer = Arc::new(data.to_vec());
    let Ok(file) = netc::weights::file::parse(&buffer) else { return };
    for entry in file.entries.iter().filter(|e| e.shape.checked_elements().is_some_and(|n| n <= LOOKED_AT)) {
        let values = entry.values();
        assert!(values.is_none_or(|v| (*v).as_ref().len() == entry.shape.elements()));
    }
}

/// An array.
pub fn npy(data: &[u8]) {
    let _ = netc::npy::read_from(Cursor::new(data), Some(data.len() as u64));
    let _ = netc::npy::read_from(Cursor::new(data), None);
}

/// A spec: its mistakes, or a graph that verifies; and its layout, which reads back.
pub fn net(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(formatted) = netc::syntax::format(text) {
        assert_eq!(netc::syntax::format(&formatted).as_deref().ok(), Some(formatted.as_str()), "formatting twice");
    }
    let mut sources = Sources::default();
    let root = sources.add("fuzzed.net", text);
    let none = |_: &Path| Err(std::io::ErrorKind::NotFound.into());
    if let Ok(made) = elaborate(&mut sources, root, &Options { loader: &none, ..Options::default() }) {
        ir::verify(&made.graph).expect("what is elaborated verifies");
    }
}

/// A compiled model: opened with all of its checksums. It is not run: who can write the file can
/// write its code.
pub fn netc(data: &[u8]) {
    let mut file = tempfile::NamedTempFile::new().expect("there is room for a file");
    file.write_all(data).expect("there is room for a file");
    let _ = netc::artifact::describe(file.path());
    let eager = netc::ModelOptions::default().threads(1).verify(netc::runtime::Verify::Eager);
    let _ = netc::Model::open_with(file.path(), eager);
}
