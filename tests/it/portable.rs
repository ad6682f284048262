//! Portable models: the same bits as the network that they were made of, and nothing believed.

use netc::internals::artifact::{Cause, describe};
use netc::internals::driver::{Compiler, Error};
use netc::internals::plan;
use netc::internals::runtime::{Model, ModelOptions};
use netc::internals::target::Target;
use netc::internals::tensor::{Shape, Tensor};
use serde_json::Value;
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::xxh3_64;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn outputs(model: &Model) -> Vec<Vec<u32>> {
    let input = |port: &netc::internals::artifact::Port| {
        let values = (0..port.elements()).map(|i| ((i * 2_654_435_761 % 1009) as f32 - 504.0) / 300.0).collect();
        Tensor::new(Shape::new(port.shape()), values)
    };
    let inputs: Vec<Tensor> = model.inputs().iter().map(input).collect();
    let outputs = model.run_tensors(&inputs).unwrap();
    outputs.iter().map(|t| t.data().iter().map(|v| v.to_bits()).collect()).collect()
}

/// Compiles a spec at once and by way of a portable file; both are the same to the bit.
fn compare(compiler: &Compiler, spec: &Path) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("portable.netc");
    let network = compiler.optimized(spec).unwrap();
    let direct = compiler.compile(&network).unwrap();
    let written = compiler.write_portable(&network, &file).unwrap();
    let opener = Compiler { target: compiler.target.clone(), ..Compiler::new() };
    let opened = opener.open(&file).unwrap();
    // What is in memory has nothing to do with the file any more.
    std::fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(100).unwrap();
    let name = spec.display();
    assert!(direct.code() == opened.code(), "{name}: other code");
    assert!(outputs(&direct) == outputs(&opened), "{name}: other bits");
    assert_eq!((direct.inputs(), direct.outputs()), (opened.inputs(), opened.outputs()), "{name}");
    assert_eq!((&written.name[..], &written.inputs[..]), (opened.name(), opened.inputs()), "{name}");
    assert_eq!(direct.about(), opened.about(), "{name}");
    assert_eq!(direct.texts().unwrap(), opened.texts().unwrap(), "{name}");
}

#[test]
fn bits_are_those_of_the_network() {
    compare(&Compiler::new(), &root().join("models/digits/digits.net"));
    compare(&Compiler::new().batch(3), &root().join("models/digits/digits.net"));
    for name in ["resnet18", "googlenet", "densenet", "unet", "dcgan_generator", "layers_shape", "layers_join"] {
        compare(&Compiler::new(), &root().join(format!("tests/goldens/{name}.net")));
    }
    for name in ["small.onnx", "external.onnx"] {
        compare(&Compiler::new(), &root().join(format!("tests/import/{name}")));
    }
}

/// What its makers asked for holds where it is opened.
#[test]
fn strict_and_forced_algorithms_are_kept() {
    let digits = root().join("models/digits/digits.net");
    let strict = plan::Options { strict: true, ..Default::default() };
    compare(&Compiler { plan: strict, ..Compiler::new() }, &digits);
    let forced = plan::Options { algorithms: vec![("*".into(), "direct".into())], ..Default::default() };
    compare(&Compiler { plan: forced, ..Compiler::new() }, &digits);
    compare(&Compiler { target: Target::parse("baseline").unwrap(), ..Compiler::new() }, &digits);
}

struct Case {
    folder: tempfile::TempDir,
    file: PathBuf,
}

const SPEC: &str = "netc 1
model small {
    input image: f32[N, 3, 9, 9]
    preprocess image { resize 12  center_crop 9  scale 1/255 }
    labels [\"a\", \"b\"]
    a: conv(8, 3, pad = 1)
    relu
    flatten
    b: linear(2)
    output logits
}
";

impl Case {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("small.net"), SPEC).unwrap();
        let file = folder.path().join("small.netc");
        Compiler::new().compile_portable(folder.path().join("small.net"), &file).unwrap();
        Self { folder, file }
    }

    /// The file with other metadata, texts and weights, all checksums right.
    fn edited(&self, edit: impl FnOnce(&mut Value, &mut Value, &mut Vec<u8>)) -> PathBuf {
        let bytes = std::fs::read(&self.file).unwrap();
        let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
        let section = |i: usize| bytes[number(48 + 32 * i + 8)..][..number(48 + 32 * i + 16)].to_vec();
        let [mut metadata, mut texts]: [Value; 2] = [2, 3].map(|i| serde_json::from_slice(&section(i)).unwrap());
        let mut weights = section(0);
        // Of one program.
        edit(&mut metadata, &mut texts[0], &mut weights);
        let padded = |bytes: &[u8]| [bytes, &vec![0; bytes.len().next_multiple_of(4096) - bytes.len()]].concat();
        let blocks: Vec<u64> = padded(&weights).chunks(1 << 20).map(xxh3_64).collect();
        metadata["blocks"] = blocks.clone().into();
        let listed: Vec<u8> = blocks.iter().flat_map(|b| b.to_le_bytes()).collect();
        let mut page = bytes[..4096].to_vec();
        let mut body = vec![];
        let [metadata, texts] = [metadata, texts].map(|json| serde_json::to_vec(&json).unwrap());
        for (i, section) in [weights, section(1), metadata, texts].iter().enumerate() {
            let sum = if i == 0 { xxh3_64(&listed) } else { xxh3_64(&padded(section)) };
            for (field, value) in [4096 + body.len() as u64, section.len() as u64, sum].into_iter().enumerate() {
                page[48 + 32 * i + 8 + 8 * field..][..8].copy_from_slice(&value.to_le_bytes());
            }
            body.extend(padded(section));
        }
        page[32..40].copy_from_slice(&(4096 + body.len() as u64).to_le_bytes());
        let sum = xxh3_64(&page[..4088]);
        page[4088..].copy_from_slice(&sum.to_le_bytes());
        let path = self.folder.path().join("edited.netc");
        std::fs::write(&path, [page, body].concat()).unwrap();
        path
    }

    fn refusal(&self, path: &Path) -> String {
        let error = Compiler::new().open(path).map(drop).expect_err("it was believed").to_string();
        error.replace(&self.folder.path().display().to_string(), "")
    }
}

#[test]
fn graphs_that_no_text_could_state_are_refused() {
    let case = Case::new();
    let untouched = case.edited(|_, _, _| ());
    Compiler::new().open(untouched).unwrap();
    let replaced = |from: &'static str, to: &'static str| {
        move |texts: &mut Value| {
            let ir = texts["ir"].as_str().unwrap().to_string();
            assert!(ir.contains(from), "{ir}");
            texts["ir"] = ir.replacen(from, to, 1).into();
        }
    };
    let edits = [
        replaced("graph", "grph"),
        replaced("phase=infer", "phase=train"),
        replaced("f32[1,3,9,9]", "f32[1,3,0,9]"),
        replaced("f32[1,3,9,9]", "f32[1,3,4294967296,4294967296]"),
        replaced("f32[1,8,9,9]", "f32[1,8,9,10]"),
        replaced("channels=8", "channels=16"),
        replaced("kernel=3x3", "kernel=0x3"),
        replaced("epilogue=[relu]", "epilogue=[add,relu]"),
        replaced("@a.weight", "@a.bias"),
        replaced("@a.weight", "@\"a\\u001bweight\""),
        replaced("output logits", "output \"a\\u001b[2Jb\""),
        replaced("crop=9x9", "crop=0x0"),
        replaced("resize=shorter(12)", "resize=shorter(99999999)"),
        replaced("features=2", "features=99999999999999999999"),
        replaced("  output logits", "  //"),
    ];
    let refused = edits.map(|edit| case.refusal(&case.edited(|_, texts, _| edit(texts))));
    insta::assert_snapshot!(refused.join("\n"));
}

#[test]
fn weights_that_are_not_the_graphs_are_refused() {
    let case = Case::new();
    type Edit = fn(&mut Value, &mut Vec<u8>);
    let edits: [Edit; 8] = [
        |metadata, _| drop(metadata["tensors"].as_array_mut().unwrap().pop()),
        |metadata, _| metadata["tensors"][0]["name"] = "other".into(),
        |metadata, _| metadata["tensors"][1]["name"] = metadata["tensors"][0]["name"].clone(),
        |metadata, _| metadata["tensors"][0]["shape"] = vec![3, 8, 3, 3].into(),
        |metadata, _| metadata["tensors"][0]["shape"] = vec![u64::MAX, 8].into(),
        |_, weights| weights.truncate(weights.len() - 4),
        |_, weights| weights.extend([0; 4]),
        |metadata, _| metadata["about"]["recipe"] = "none".into(),
    ];
    let mut refused =
        edits.map(|edit| case.refusal(&case.edited(|metadata, _, weights| edit(metadata, weights)))).to_vec();
    // Two changes that agree with one another, and with nothing in the graph.
    refused.push(case.refusal(&case.edited(|metadata, _, weights| {
        metadata["tensors"].as_array_mut().unwrap().push(serde_json::json!({ "name": "more", "shape": [1] }));
        weights.extend([0; 4]);
    })));
    insta::assert_snapshot!(refused.join("\n"));
}

#[test]
fn damage_is_found_wherever_it_is() {
    let case = Case::new();
    let whole = std::fs::read(&case.file).unwrap();
    let path = case.folder.path().join("damaged.netc");
    for at in (0..whole.len()).step_by(61) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        std::fs::write(&path, &bytes).unwrap();
        assert!(Compiler::new().read_portable(&path).is_err(), "byte {at}");
    }
    for length in [0, 8, 4095, 4096, 5000, whole.len() - 1] {
        std::fs::write(&path, &whole[..length]).unwrap();
        assert!(Compiler::new().read_portable(&path).is_err(), "{length} bytes");
    }
}

#[test]
fn weights_beyond_the_memory_are_refused_before_it_is_taken() {
    let case = Case::new();
    let compiler = Compiler::new().options(ModelOptions::default().memory(1000));
    let Err(Error::Open(error)) = compiler.open(&case.file).map(drop) else { panic!("it was opened") };
    assert!(matches!(error.cause, Cause::TooLarge { limit: 1000, .. }), "{error}");
}

/// Code is asked for by name, and so is its absence.
#[test]
fn each_kind_is_opened_as_what_it_is() {
    let case = Case::new();
    let error = super::open(&case.file, ModelOptions::default()).map(drop).unwrap_err();
    assert!(matches!(error.cause, Cause::Portable), "{error}");
    assert!(error.to_string().contains("Compiler::open"), "{error}");
    let native = case.folder.path().join("native.netc");
    Compiler::new().compile_file_to(case.folder.path().join("small.net"), &native).unwrap();
    assert!(case.refusal(&native).contains("this is no portable model"));
    let (about, texts) = describe(&case.file).unwrap();
    assert_eq!((about.recipe.unwrap().model, &texts.sources[0][..]), ("small".to_string(), SPEC));
    // From it, a file for this machine can be made, as from the spec.
    let again = case.folder.path().join("again.netc");
    Compiler::new().compile_file_to(&case.file, &again).unwrap();
    let (native, again) = (std::fs::read(native).unwrap(), std::fs::read(again).unwrap());
    assert!(native == again);
}
