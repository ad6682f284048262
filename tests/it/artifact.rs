//! Files that are damaged, cut, foreign, or older: each is refused for the right reason, and none
//! ever yields a wrong result.

use crate::tiny;
use netc::artifact::{Cause, Destination, Manifest, Texts, Writer};
use netc::driver::Compiler;
use netc::interpreter;
use netc::runtime::{Model, ModelOptions, RunError, Verify};
use netc::tensor::Tensor;
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
    Model::open_with(path, ModelOptions::default().threads(2).verify(verify)).map_err(|e| e.cause)
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
    let image = tiny::image(2, &Destination::Memory);
    assert_eq!(model.manifest(), &image.manifest);
    assert_eq!(model.about(), &tiny::about());
    assert_eq!(model.texts().unwrap(), tiny::texts());
    assert_eq!(model.code(), image.code);
    run(&model).unwrap();
}

#[test]
fn packing_in_memory_or_into_the_file_gives_the_same_bytes() {
    let case = Case::new();
    let path = case.folder.path().join("copied.netc");
    let image = tiny::image(2, &Destination::Memory);
    Writer::create(&path).unwrap().finish(&image, &tiny::about(), &tiny::texts()).unwrap();
    assert!(std::fs::read(&path).unwrap() == case.bytes);
}

#[test]
fn a_file_appears_when_it_is_whole_and_replaces_the_one_before() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.netc");
    let files = || std::fs::read_dir(folder.path()).unwrap().count();
    let writer = Writer::create(&path).unwrap();
    assert!(!path.exists());
    drop(writer);
    assert_eq!(files(), 0);
    tiny::write(&path, 1);
    let open_before = Model::open(&path).unwrap();
    tiny::write(&path, 2);
    assert_eq!(files(), 1);
    assert_eq!((open_before.batch(), Model::open(&path).unwrap().batch()), (1, 2));
    run(&open_before).unwrap();
}

#[test]
fn places_that_cannot_be_written_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let error = |path: &Path| Writer::create(path).map(drop).unwrap_err().to_string();
    assert!(error(folder.path()).contains("directory"), "{}", error(folder.path()));
    let nowhere = folder.path().join("no/such/folder/model.netc");
    assert!(error(&nowhere).contains("no/such/folder/model.netc: "), "{}", error(&nowhere));
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
fn other_cpus_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other.netc");
    let mut image = tiny::image(1, &Destination::Memory);
    image.manifest.features = vec!["sse2".into(), "avx1024f".into()];
    Writer::create(&path).unwrap().finish(&image, &tiny::about(), &Texts::default()).unwrap();
    let error = open(&path, Verify::Lazy).map(drop).unwrap_err();
    insta::assert_snapshot!(error.to_string());
}

#[test]
fn a_manifest_that_cannot_be_is_refused() {
    let edits: [fn(&mut Manifest); 6] = [
        |m| m.outputs.clear(),
        |m| m.inputs[0].shape = vec![usize::MAX, 3],
        |m| m.outputs[0].shape = vec![0],
        |m| m.steps[1].entry = 1 << 40,
        |m| m.steps[0].weights.as_mut().unwrap().offset = u64::MAX,
        |m| m.arena_bytes = 1 << 60,
    ];
    let mut errors = vec![];
    for edit in edits {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("odd.netc");
        let mut image = tiny::image(1, &Destination::Memory);
        edit(&mut image.manifest);
        Writer::create(&path).unwrap().finish(&image, &tiny::about(), &Texts::default()).unwrap();
        errors.push(open(&path, Verify::Lazy).map(drop).unwrap_err().to_string());
    }
    insta::assert_snapshot!(errors.join("\n"));
}

#[test]
fn a_folder_or_nothing_is_no_model() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(open(folder.path(), Verify::Lazy).map(drop), Err(Cause::Io(_))));
    let error = Model::open(folder.path().join("missing.netc")).unwrap_err().to_string();
    assert!(error.contains("missing.netc: "), "{error}");
}

/// See tests/artifact/README.md for what to do when this fails.
#[cfg(target_arch = "x86_64")]
#[test]
fn files_of_this_format_version_stay_readable() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/artifact/v1.netc");
    let model = open(&file, Verify::Eager).unwrap_or_else(|e| panic!("{e}; see tests/artifact/README.md"));
    assert_eq!(model.about().labels, ["a", "b"]);
    let input = Tensor::new([3, 3, 4, 4], (0..144).map(|i| (i % 17) as f32 / 8.0 - 1.0).collect());
    let network = Compiler::new().batch(3).seed(1).optimized(&file.with_file_name("small.net")).unwrap();
    let expected = interpreter::run(&network.graph, std::slice::from_ref(&input)).unwrap().remove(0);
    let (worst, scale) = model.run_tensors(&[input]).unwrap()[0].difference(&expected);
    assert!(worst <= 1e-5 * scale, "{worst} of {scale}");
}
