//! Models under many threads: opened, run and closed at the same time, the bits of every result
//! compared. The example does so for hours.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::tiny;
use netc::Compiler;

#[path = "../../examples/soak.rs"]
mod soak;

const SPEC: &str = "netc 1
model stress {
    input image: f32[N, 3, 24, 24]
    stem: conv(16, 3, pad = 1)
    relu
    wide: conv(32, 3, stride = 2, pad = 1)
    relu
    out: conv(8, 1)
    output map
}
";

/// A network, and a model that does so little that threads meet all the time.
fn files(folder: &Path) -> Vec<PathBuf> {
    let [text, network, tiny] = ["stress.net", "stress.netc", "tiny.netc"].map(|name| folder.join(name));
    std::fs::write(&text, SPEC).unwrap();
    Compiler::new().compile_file_to(&text, &network).unwrap();
    tiny::write(&tiny, 1);
    vec![network, tiny]
}

#[test]
fn freshly_opened_models_are_run_by_several_threads() {
    let folder = tempfile::tempdir().unwrap();
    assert!(soak::first_runs(&files(folder.path()), Duration::from_secs(1)) > 0);
}

#[test]
fn models_are_replaced_while_many_call_them() {
    let folder = tempfile::tempdir().unwrap();
    assert!(soak::replaced_models(&files(folder.path()), Duration::from_secs(1)) > 0);
}
