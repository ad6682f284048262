//! Files that are damaged, cut, foreign, or older: each is refused for the right reason, and none
//! ever yields a wrong result.

use crate::tiny;
use netc::internals::artifact::Cause;
use netc::internals::driver::Compiler;
use netc::internals::interpreter;
use netc::internals::runtime::{Model, ModelOptions, RunError, Verify};
use netc::internals::tensor::Tensor;
use std::path::{Path, PathBuf};

struct Case {
    folder: tempfile::TempDir,
    bytes: Vec<u8>,
}

impl Case {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        tiny::write(&folder.path().join("good.netc"), 2);
        let bytes = std::fs::read(folder.path().join("good.netc")).unwrap();
        Self { folder, bytes }
    }

    fn write(&self, bytes: &[u8]) -> PathBuf {
        let path = self.folder.path().join("case.netc");
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn open_error(&self, bytes: &[u8]) -> Cause {
        open(&self.write(bytes), Verify::Lazy).map(drop).expect_err("the damage was not found")
    }

    /// First byte of the sections behind the weights.
    fn behind_weights(&self) -> usize {
        4096 + (tiny::SECOND + 8 * tiny::WIDTH).next_multiple_of(4096)
    }
}

fn open(path: &Path, verify: Verify) -> Result<Model, Cause> {
    super::open(path, ModelOptions::default().threads(2).verify(verify)).map_err(|e| e.cause)
}

fn run(model: &Model) -> Result<Vec<f32>, RunError> {
    let input: Vec<f32> = (0..2 * tiny::WIDTH).map(|i| i as f32).collect();
    let mut output = vec![f32::NAN; input.len()];
    model.run(&[&input], &mut [&mut output])?;
    assert_eq!(output, tiny::expected(&input));
    Ok(output)
}

#[test]
fn a_file_tells_all_that_was_put_in() {
    let case = Case::new();
    let model = open(&case.write(&case.bytes), Verify::Lazy).unwrap();
    let made = tiny::model(2, ModelOptions::default());
    assert_eq!((model.inputs(), model.outputs(), model.steps()), (made.inputs(), made.outputs(), made.steps()));
    assert_eq!((model.features(), model.run_memory()), (made.features(), made.run_memory()));
    assert_eq!(model.about(), &tiny::about());
    assert_eq!(model.texts().unwrap(), tiny::texts());
    assert_eq!(model.code(), made.code());
    run(&model).unwrap();
}

#[test]
fn a_file_appears_when_it_is_whole_and_replaces_the_one_before() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.netc");
    let files = || std::fs::read_dir(folder.path()).unwrap().count();
    tiny::write(&path, 1);
    let open_before = open(&path, Verify::Lazy).unwrap();
    tiny::write(&path, 2);
    assert_eq!(files(), 1);
    assert_eq!((open_before.batch(), open(&path, Verify::Lazy).unwrap().batch()), (1, 2));
    run(&open_before).unwrap();
}

#[test]
fn every_truncation_is_found() {
    let case = Case::new();
    assert!(matches!(case.open_error(&[]), Cause::Empty));
    let whole = case.bytes.len();
    let around = |n: usize| [n - 1, n, n + 1];
    let lengths = [1, 7, 8, 9, 100, 4095].into_iter().chain(around(4096)).chain(around(4096 + (1 << 20)));
    for length in lengths.chain(around(case.behind_weights())).chain([whole - 4096, whole - 1]) {
        let error = case.open_error(&case.bytes[..length]);
        assert!(matches!(error, Cause::Truncated { actual, .. } if actual == length as u64), "{length}: {error}");
    }
    let longer = [&case.bytes[..], b"more"].concat();
    assert!(matches!(case.open_error(&longer), Cause::Trailing { extra: 4 }));
}

#[test]
fn every_flipped_byte_outside_the_weights_is_found_on_opening() {
    let case = Case::new();
    let behind = case.behind_weights();
    // The header's bits are tested where it is decoded; here every 37th byte, with every bit in turn.
    let places = (0..4096).chain(behind..case.bytes.len()).step_by(37);
    let path = case.write(&case.bytes);
    for (n, at) in places.enumerate() {
        let damaged = case.bytes[at] ^ 1 << (n % 8);
        patch(&path, at, damaged);
        let error = open(&path, Verify::Off).map(drop).expect_err("the damage was not found");
        let found = if at < 8 { matches!(error, Cause::NotAModel { .. }) } else { is_damage(&error, at) };
        assert!(found, "byte {at}: {error}");
        patch(&path, at, case.bytes[at]);
    }
    open(&path, Verify::Off).unwrap();
}

fn is_damage(error: &Cause, at: usize) -> bool {
    matches!(error, Cause::Damaged { offset, .. } if *offset <= at as u64)
}

fn patch(path: &Path, at: usize, byte: u8) {
    use std::os::unix::fs::FileExt;
    std::fs::OpenOptions::new().write(true).open(path).unwrap().write_at(&[byte], at as u64).unwrap();
}

#[test]
fn damaged_weights_are_found_before_a_result_is_given() {
    let case = Case::new();
    let read_first = [4096, 4096 + 4 * tiny::WIDTH, 4096 + (1 << 20) - 1];
    let read_second = [4096 + tiny::SECOND, case.behind_weights() - 1];
    for (step, at) in read_first.map(|at| ("first", at)).into_iter().chain(read_second.map(|at| ("second", at))) {
        let mut bytes = case.bytes.clone();
        bytes[at] ^= 0x10;
        let path = case.write(&bytes);
        let model = open(&path, Verify::Lazy).unwrap();
        for _ in 0..2 {
            let error = run(&model).expect_err("a result from damaged weights");
            let RunError::Damaged { path: Some(named), step: found, offset } = error else { panic!("{error}") };
            assert_eq!((named.as_path(), found.as_str()), (path.as_path(), step));
            assert!(offset as usize <= at);
        }
        let error = open(&path, Verify::Eager).map(drop).expect_err("damage was not found on opening");
        assert!(matches!(error, Cause::Damaged { section: "weights", .. }), "{error}");
    }
}

#[test]
fn a_block_that_no_step_reads_does_not_matter() {
    let case = Case::new();
    let mut bytes = case.bytes.clone();
    bytes[4096 + (1 << 20) + 5] ^= 1;
    run(&open(&case.write(&bytes), Verify::Lazy).unwrap()).unwrap();
}

#[test]
fn a_folder_or_nothing_is_no_model() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(open(folder.path(), Verify::Lazy).map(drop), Err(Cause::Io(_))));
    let missing = folder.path().join("missing.netc");
    let error = super::open(&missing, ModelOptions::default()).unwrap_err().to_string();
    assert!(error.contains("missing.netc: "), "{error}");
}

/// See tests/artifact/README.md for what to do when this fails.
#[cfg(target_arch = "x86_64")]
#[test]
fn files_of_this_format_version_stay_readable() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/artifact");
    let input = Tensor::new([3, 3, 4, 4], (0..144).map(|i| (i % 17) as f32 / 8.0 - 1.0).collect());
    let network = Compiler::new().batch(3).seed(1).optimized(&folder.join("small.net")).unwrap();
    let expected = interpreter::run(&network.graph, std::slice::from_ref(&input)).unwrap().remove(0);
    for name in ["v2.netc", "v3.netc"] {
        let model = open(&folder.join(name), Verify::Eager);
        let model = model.unwrap_or_else(|e| panic!("{name}: {e}; see tests/artifact/README.md"));
        assert_eq!(model.about().labels, ["a", "b"]);
        let (worst, scale) = model.run_tensors(std::slice::from_ref(&input)).unwrap()[0].difference(&expected);
        assert!(worst <= 1e-5 * scale, "{name}: {worst} of {scale}");
    }
}

/// The same file as a part of this program.
#[cfg(target_arch = "x86_64")]
#[test]
fn a_model_may_be_a_part_of_a_program() {
    let included = netc::include_model!("../artifact/v2.netc", ModelOptions::default().threads(1)).unwrap();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/artifact/v2.netc");
    let input = Tensor::new([3, 3, 4, 4], (0..144).map(|i| (i % 17) as f32 / 8.0 - 1.0).collect());
    let run = |model: &Model| model.run_tensors(std::slice::from_ref(&input)).unwrap();
    assert_eq!(run(&included), run(&open(&file, Verify::Eager).unwrap()));
    // What is no model is no mistake of the compilation.
    let wrong = netc::include_model!("../artifact/small.net").map(drop).unwrap_err();
    assert!(wrong.to_string().starts_with("cannot open a model in the program: "), "{wrong}");
}

/// Everything that somebody may do to a file that another process has open.
mod changed_while_open {
    use super::*;
    use std::fs::{self, OpenOptions};

    const INPUT: usize = 2 * tiny::WIDTH;

    fn outcome(model: &Model) -> String {
        run(model).map_or_else(|e| e.to_string(), |_| "right".into())
    }

    /// What a run says before something is done to the file, and after it.
    fn said(copy: bool, warm: bool, change: &dyn Fn(&Path)) -> String {
        let case = Case::new();
        let path = case.write(&case.bytes);
        let model = super::super::open(&path, ModelOptions::default().threads(2).copy_weights(copy)).unwrap();
        if warm {
            assert_eq!(outcome(&model), "right");
        } else {
            // Within a tick of the file system's clock, only checksums tell.
            std::thread::sleep(std::time::Duration::from_millis(15));
        }
        change(&path);
        outcome(&model).replace(&path.display().to_string(), "FILE")
    }

    /// Another model's bytes: `cp other.netc FILE`.
    fn copied_over(path: &Path) {
        tiny::write(&path.with_file_name("other.netc"), 3);
        fs::copy(path.with_file_name("other.netc"), path).unwrap();
    }

    fn overwritten(path: &Path) {
        // Four floats of the first step's weights.
        use std::os::unix::fs::FileExt;
        OpenOptions::new().write(true).open(path).unwrap().write_at(&[0x42; 16], 4096).unwrap();
    }

    fn cut(path: &Path) {
        OpenOptions::new().write(true).open(path).unwrap().set_len(5000).unwrap();
    }

    fn code_overwritten(path: &Path) {
        let bytes = fs::read(path).unwrap();
        let mut changed = bytes.clone();
        let behind = 4096 + (tiny::SECOND + 4 * INPUT).next_multiple_of(4096);
        changed[behind..behind + 64].fill(0xcc);
        fs::write(path, changed).unwrap();
    }

    fn renamed_over(path: &Path) {
        tiny::write(&path.with_file_name("other.netc"), 3);
        fs::rename(path.with_file_name("other.netc"), path).unwrap();
    }

    fn removed(path: &Path) {
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn what_is_done_in_place_is_told() {
        for change in [copied_over, overwritten, cut, code_overwritten] {
            // Where nothing ran yet, checksums might find it too; what is told is the cause.
            for warm in [true, false] {
                let said = said(false, warm, &change);
                let begins = "FILE: the file was changed in place while the model was open: it was ";
                assert!(said.starts_with(begins) && said.contains("rename it over the old one"), "{said}");
            }
        }
        assert!(said(false, true, &cut).contains("it was cut from 2117632 to 5000 bytes"));
    }

    #[test]
    fn renaming_and_removing_disturb_nobody() {
        for change in [renamed_over, removed] {
            assert_eq!(said(false, true, &change), "right");
            assert_eq!(said(false, false, &change), "right");
        }
    }

    #[test]
    fn with_a_copy_of_the_weights_the_file_no_longer_matters() {
        for change in [copied_over, overwritten, cut, code_overwritten, renamed_over, removed] {
            assert_eq!(said(true, true, &change), "right");
            assert_eq!(said(true, false, &change), "right");
        }
    }

    /// A copy of damaged weights is as damaged.
    #[test]
    fn copies_are_compared_with_their_checksums() {
        let case = Case::new();
        let mut bytes = case.bytes.clone();
        bytes[4096] ^= 1;
        let options = ModelOptions::default().threads(2).copy_weights(true);
        let model = super::super::open(&case.write(&bytes), options).unwrap();
        assert!(matches!(run(&model), Err(RunError::Damaged { offset: 4096, .. })));
    }

    /// Somebody writes while runs go on, over and over: no result is wrong, however the two meet.
    #[test]
    fn no_result_comes_from_weights_that_change_meanwhile() {
        let case = Case::new();
        let path = case.write(&case.bytes);
        let model = open(&path, Verify::Lazy).unwrap();
        run(&model).unwrap();
        let mut refused = 0;
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                std::thread::sleep(std::time::Duration::from_millis(20));
                overwritten(&path);
            });
            while !writer.is_finished() {
                // `run` compares the result.
                refused += usize::from(run(&model).is_err());
            }
        });
        assert!(run(&model).is_err(), "{refused}");
    }
}
