//! Networks for several sizes of their inputs: one file with a program for each, and folders of compiled models.

use std::path::{Path, PathBuf};

use netc::internals::artifact::Cause;
use netc::internals::driver::{Event, Observer, Stage};
use netc::internals::interop::onnx::{Options, import, proto};
use netc::internals::interpreter;
use netc::internals::runtime::RunError;
use netc::{Cache, Compiler, Model, ModelFile, ModelOptions, ModelsBySize, NetworkSource, Shape, SizesError, Tensor};
use prost::Message;

const SPEC: &str = "netc 1
model m {
    input image: f32[N, 3, 12, 12]
    preprocess image { resize 12 scale 1/255 }
    stem: conv(32, 3, pad = 1)
    relu
    body: conv(64, 3, pad = 1, stride = 2)
    relu
    global_avg_pool
    flatten
    linear(10)
    output scores
}
";

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        folder.write("m.net", SPEC);
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        std::fs::write(self.path(name), text).unwrap();
        self.path(name)
    }

    fn source(&self) -> NetworkSource {
        NetworkSource::File(self.path("m.net"))
    }

    /// A file of programs by these compilers.
    fn compiled(&self, compilers: &[Compiler]) -> PathBuf {
        let path = self.path("m.netc");
        let mut file = ModelFile::create(&path).unwrap();
        for compiler in compilers {
            file.add(compiler, &compiler.optimized(&self.path("m.net")).unwrap()).unwrap();
        }
        file.finish().unwrap();
        path
    }
}

fn seeded() -> Compiler {
    Compiler::new().seed(3).options(ModelOptions::default().threads(2))
}

fn sides() -> Vec<Compiler> {
    [12, 20].into_iter().map(|side| seeded().pictures(side, side + 4)).collect()
}

fn values(shape: &[usize]) -> Tensor {
    let shape = Shape::new(shape);
    let data = (0..shape.elements()).map(|i| ((i * 37) % 101) as f32 / 50.0 - 1.0).collect();
    Tensor::new(shape, data)
}

fn opened(path: &Path) -> Model {
    super::open(path, ModelOptions::default().threads(2)).unwrap_or_else(|e| panic!("{e}"))
}

fn run(model: &Model, input: &Tensor) -> Tensor {
    model.run_tensors(std::slice::from_ref(input)).unwrap_or_else(|e| panic!("{e}")).remove(0)
}

fn assert_close(found: &Tensor, expected: &Tensor) {
    assert_eq!(found.shape(), expected.shape());
    let (worst, scale) = found.difference(expected);
    assert!(worst <= 1e-4 * scale, "{worst} of {scale}");
}

#[test]
fn commands_that_measure_say_which_size() {
    let folder = Folder::new();
    let of = |size| Compiler { pictures: Some([size, size]), ..Compiler::new().seed(1) };
    let measured = |sizes: &[Compiler], line: &[&str]| {
        let file = folder.compiled(sizes);
        let ran = super::cli::netc().args(line).arg(&file).args(["--threads", "1"]).output().unwrap();
        assert!(ran.status.success(), "{ran:?}");
        String::from_utf8(ran.stderr).unwrap()
    };
    let told = "note: of the model's 2 sizes, this is image [N,3,12,12]";
    for line in [&["bench", "--seconds", "0.01"][..], &["profile", "--runs", "1"]] {
        let said = measured(&[of(12), of(16)], line);
        assert!(said.contains(told), "{line:?}: {said}");
    }
    assert_eq!(measured(&[of(12)], &["bench", "--seconds", "0.01"]), "");
}

#[test]
fn a_file_has_a_program_for_each_size_and_the_weights_once() {
    let folder = Folder::new();
    let model = opened(&folder.compiled(&sides()));
    let sizes: Vec<String> = model.sizes().map(|size| size.to_string()).collect();
    assert_eq!(sizes, ["image [N,3,12,16]", "image [N,3,20,24]"]);
    let alone = folder.source().compile(&sides()[0]).unwrap();
    assert!(model.weights_bytes() < alone.weights_bytes() + 4096, "{}", model.weights_bytes());
    for (compiler, images) in sides().iter().zip([1, 3]) {
        let network = compiler.clone().batch(images).optimized(&folder.path("m.net")).unwrap();
        let [height, width] = compiler.pictures.unwrap();
        let input = values(&[images, 3, height, width]);
        let expected = interpreter::run(&network.graph, std::slice::from_ref(&input)).unwrap().remove(0);
        assert_close(&run(&model, &input), &expected);
        // The plain interface, once the size is chosen.
        let size = model.size([input.shape().dims()].into_iter()).unwrap();
        let mut scores = vec![0.0; images * 10];
        size.run(&[input.data()], &mut [&mut scores]).unwrap();
        assert_eq!(scores, run(&model, &input).data());
        assert_eq!(size.about().preprocess.len(), 1);
    }
    let other = model.run_tensors(&[values(&[1, 3, 12, 12])]).unwrap_err();
    assert!(matches!(other, RunError::NoSize { .. }));
    let message = "m is compiled for image [N,3,12,16]; image [N,3,20,24], not for [1, 3, 12, 12]";
    assert_eq!(other.to_string(), message);
}

/// A model in memory is the same as its file.
#[test]
fn sizes_in_memory_become_the_same_file() {
    let folder = Folder::new();
    let made = folder.source().compile_sizes(&sides()).unwrap();
    let bytes = made.to_bytes().unwrap();
    assert!(bytes == std::fs::read(folder.compiled(&sides())).unwrap());
    let input = values(&[2, 3, 20, 24]);
    assert_eq!(run(&made, &input), run(&super::from_bytes(&bytes).unwrap(), &input));
}

#[test]
fn batches_are_chosen_by_the_number_of_images_and_give_the_same_bits() {
    let folder = Folder::new();
    let strict = |images: usize| {
        let mut compiler = seeded().batch(images);
        compiler.plan.strict = true;
        compiler
    };
    let several = opened(&folder.compiled(&[1, 4, 16].map(strict)));
    let size = several.sizes().next().unwrap();
    assert_eq!((several.sizes().len(), size.batches().collect::<Vec<_>>()), (1, vec![1, 4, 16]));
    let one = folder.source().compile(&strict(1)).unwrap();
    for images in [1, 2, 3, 4, 5, 6, 15, 16, 17, 37] {
        let input = values(&[images, 3, 12, 12]);
        assert_eq!(run(&several, &input), run(&one, &input), "{images} images");
    }
    // Not strict, kernels may differ, and rounding with them.
    let loose = opened(&folder.compiled(&[1, 4, 16].map(|images| seeded().batch(images))));
    let input = values(&[6, 3, 12, 12]);
    assert_close(&run(&loose, &input), &run(&one, &input));
}

#[test]
fn nothing_is_there_twice() {
    let folder = Folder::new();
    let mut file = ModelFile::create(folder.path("m.netc")).unwrap();
    let mut add = |compiler: Compiler| file.add(&compiler, &compiler.optimized(&folder.path("m.net")).unwrap());
    add(seeded()).unwrap();
    let twice = add(seeded().pictures(12, 12)).unwrap_err().to_string();
    assert_eq!(twice, "m: two of its programs are for the same sizes");
    drop(file);
    assert!(!folder.path("m.netc").exists());
    let other = folder.write("other.net", &SPEC.replace("output scores", "output others"));
    let networks = [folder.path("m.net"), other].map(|spec| seeded().optimized(&spec).unwrap());
    let mut file = ModelFile::create(folder.path("m.netc")).unwrap();
    file.add(&seeded(), &networks[0]).unwrap();
    let foreign = file.add(&seeded().pictures(16, 16), &networks[1]).unwrap_err().to_string();
    assert_eq!(foreign, "m: its programs are of different networks");
}

#[test]
fn damage_of_a_file_of_several_sizes_is_found() {
    let folder = Folder::new();
    let path = folder.compiled(&sides());
    let whole = std::fs::read(&path).unwrap();
    let inputs = [values(&[1, 3, 12, 16]), values(&[1, 3, 20, 24])];
    let expected: Vec<Tensor> = inputs.iter().map(|input| run(&opened(&path), input)).collect();
    for cut in [0, 100, 4096, whole.len() / 2, whole.len() - 1] {
        let damaged = folder.path("cut.netc");
        std::fs::write(&damaged, &whole[..cut]).unwrap();
        assert!(super::open(&damaged, ModelOptions::default()).is_err(), "{cut} bytes");
    }
    for place in (8..whole.len()).step_by(whole.len() / 97) {
        let damaged = folder.path("damaged.netc");
        let mut bytes = whole.clone();
        bytes[place] ^= 0x10;
        std::fs::write(&damaged, bytes).unwrap();
        let Ok(model) = super::open(&damaged, ModelOptions::default()) else { continue };
        let right = |(input, expected): (&Tensor, &Tensor)| match model.run_tensors(std::slice::from_ref(input)) {
            Ok(outputs) => outputs[0] == *expected,
            Err(error) => matches!(error, RunError::Damaged { .. }),
        };
        assert!(inputs.iter().zip(&expected).all(right), "byte {place}");
    }
}

/// The first version of the format had one program.
#[test]
fn files_of_the_first_version_are_refused_by_its_number() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/artifact/v1.netc");
    let error = super::open(&file, ModelOptions::default()).map(drop).unwrap_err();
    assert!(matches!(error.cause, Cause::Version { found: 1, supported: 2 }), "{error}");
}

/// What the texts within and the weights allow, is compiled for another size.
#[test]
fn a_compiled_model_is_compiled_again_for_another_size() {
    let folder = Folder::new();
    let path = folder.compiled(&sides());
    let model = std::sync::Arc::new(opened(&path));
    let by_size = ModelsBySize::new(Compiler::new(), NetworkSource::Compiled(path), &model, 2);
    let made = by_size.model(&[vec![1, 3, 8, 8]]).unwrap();
    let network = seeded().pictures(8, 8).optimized(&folder.path("m.net")).unwrap();
    let input = values(&[1, 3, 8, 8]);
    assert_close(&run(&made, &input), &interpreter::run(&network.graph, &[input]).unwrap()[0]);
}

/// An imported model is read again for other sizes, since its text has those that it was read with; so is one that is open, of
/// which there is no file.
#[test]
fn an_imported_model_is_compiled_again_for_another_size() {
    let folder = Folder::new();
    let (onnx, path) = (folder.path("small.onnx"), folder.path("small.netc"));
    std::fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/import/small.onnx"), &onnx).unwrap();
    Compiler::new().compile_file_to(&onnx, &path).unwrap();
    let model = std::sync::Arc::new(opened(&path));
    let network = Compiler::new().shape("image", [1, 3, 16, 14]).optimized(&onnx).unwrap();
    let input = values(&[1, 3, 16, 14]);
    let expected = interpreter::run(&network.graph, std::slice::from_ref(&input)).unwrap();
    let sources = [NetworkSource::Compiled(path), NetworkSource::Open(model.clone())];
    for source in sources {
        let by_size = ModelsBySize::new(Compiler::new(), source.clone(), &model, 2);
        assert_close(&run(&by_size.model(&[vec![1, 3, 16, 14]]).unwrap(), &input), &expected[0]);
    }
    // Weights that are others now are no weights of it.
    std::fs::write(&onnx, "netc 1").unwrap();
    let by_size = ModelsBySize::new(Compiler::new(), NetworkSource::Open(model.clone()), &model, 2);
    let error = by_size.model(&[vec![1, 3, 16, 14]]).map(drop).unwrap_err();
    assert!(error.to_string().contains("small.onnx are not to be found, or have changed"), "{error}");
}

#[test]
fn compilers_for_sizes_are_each_size_with_each_number() {
    let made = |pictures: &[[usize; 2]], batches: &[usize]| {
        let made = Compiler::new().batch(3).for_sizes(pictures, batches)?;
        Ok(made.iter().map(|compiler| (compiler.pictures, compiler.batch)).collect::<Vec<_>>())
    };
    let (small, large) = (Some([8, 8]), Some([8, 12]));
    assert_eq!(made(&[], &[]), Ok(vec![(None, 3)]));
    assert_eq!(made(&[[8, 8], [8, 12]], &[]), Ok(vec![(small, 3), (large, 3)]));
    assert_eq!(made(&[[8, 8], [8, 12]], &[1, 4]), Ok(vec![(small, 1), (small, 4), (large, 1), (large, 4)]));
    let many: Vec<[usize; 2]> = (1..=32).map(|side| [side, side]).collect();
    assert_eq!(made(&many, &[1, 2]).unwrap().len(), 64);
    assert_eq!(made(&many, &[1, 2, 3]), Err(SizesError::Many { pictures: 32, batches: 3 }));
    assert_eq!(made(&[[8, 8], [8, 12], [8, 8]], &[]), Err(SizesError::PictureTwice([8, 8])));
    assert_eq!(made(&[], &[4, 1, 4]), Err(SizesError::BatchTwice(4)));
    assert_eq!(made(&[[8, 0]], &[]), Err(SizesError::Picture([8, 0])));
    assert_eq!(made(&[], &[1, 65537]), Err(SizesError::Batch(65537)));
    let text = SizesError::Many { pictures: 32, batches: 3 }.to_string();
    assert_eq!(text, "32 sizes of pictures with 3 numbers of images are 96 programs; 64 are the most");
}

/// A size that is there does not wait for one that is being compiled.
#[test]
fn sizes_that_are_there_do_not_wait_for_others() {
    let folder = Folder::new();
    let (begun, begins) = std::sync::mpsc::channel();
    let (go, goes) = std::sync::mpsc::channel::<()>();
    let goes = std::sync::Mutex::new(goes);
    let watch = move |event: Event| {
        if let Event::Begin(Stage::Optimize) = event {
            begun.send(()).unwrap();
            goes.lock().unwrap().recv().unwrap();
        }
    };
    let model = std::sync::Arc::new(folder.source().compile(&seeded()).unwrap());
    let watched = Compiler { observer: Some(Observer(std::sync::Arc::new(watch))), ..seeded() };
    let models = ModelsBySize::new(watched, folder.source(), &model, 4);
    let (own, other) = ([vec![1, 3, 12, 12]], [vec![1, 3, 8, 8]]);
    assert!(models.known(&own).is_some() && models.known(&other).is_none());
    std::thread::scope(|scope| {
        let compiling = scope.spawn(|| models.model(&other).unwrap());
        begins.recv().unwrap();
        assert_eq!(models.model(&own).unwrap().inputs()[0].shape(), [1, 3, 12, 12]);
        assert!(models.known(&other).is_none());
        go.send(()).unwrap();
        assert_eq!(compiling.join().unwrap().inputs()[0].shape(), [1, 3, 8, 8]);
    });
    assert!(models.known(&other).is_some());
}

/// A network in memory is the file's, of each kind that a file may be; and a cache knows it again by its bytes.
#[test]
fn networks_in_memory_are_those_of_their_files() {
    let folder = Folder::new();
    let onnx = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/import/small.onnx");
    let portable = folder.path("m.portable.netc");
    seeded().write_portable(&seeded().optimized(&folder.path("m.net")).unwrap(), &portable).unwrap();
    let in_memory = |path: &Path| {
        let bytes = std::fs::read(path).unwrap();
        NetworkSource::Bytes { name: "<bytes>".into(), bytes: bytes.into() }
    };
    let cache = Cache::open(folder.path("cache")).unwrap();
    for (path, compiler) in [(onnx, Compiler::new()), (portable, Compiler::new()), (folder.path("m.net"), seeded())] {
        let of_file = NetworkSource::File(path.clone()).compile(&compiler).unwrap();
        let of_bytes = in_memory(&path).compile(&compiler).unwrap();
        let input = values(of_file.inputs()[0].shape());
        assert_eq!(of_bytes.inputs(), of_file.inputs());
        assert_eq!(run(&of_bytes, &input), run(&of_file, &input), "{}", path.display());
        let (kept, compilers) = (|| std::fs::read_dir(folder.path("cache")).unwrap().count(), [compiler]);
        let before = kept();
        for _ in 0..2 {
            let cached = in_memory(&path).compile_cached(&compilers, &cache).unwrap();
            assert_eq!(run(&cached, &input), run(&of_file, &input));
        }
        assert!((2..=3).contains(&(kept() - before)), "{}: one model and its list, and a lock", path.display());
    }
    let refused = |bytes: &[u8]| {
        let source = NetworkSource::Bytes { name: "<bytes>".into(), bytes: bytes.into() };
        source.compile(&Compiler::new()).map(drop).unwrap_err().to_string()
    };
    assert_eq!(refused(b"hello"), "<bytes>: this is a text, but no network: it does not begin with `netc 1`");
    assert!(refused(b"\x89PNG\r\n\x1a\n").contains("<bytes>: this is a PNG"), "{}", refused(b"\x89PNG\r\n\x1a\n"));
    let compiled = std::fs::read(folder.compiled(&[seeded()])).unwrap();
    assert!(refused(&compiled).contains("no portable model"), "{}", refused(&compiled));
    assert!(refused(&compiled[..40]).contains("a model in memory"), "{}", refused(&compiled[..40]));
}

#[test]
fn pictures_need_one_input_that_is_a_picture() {
    let folder = Folder::new();
    let refused = |text: &str| {
        let spec = folder.write("odd.net", text);
        let error = Compiler::new().pictures(8, 8).front(&spec).map(drop).unwrap_err();
        error.to_string()
    };
    let none = refused("netc 1\nmodel m { input x: f32[N, 4]  linear(2)  output y }\n");
    assert!(none.contains("pictures of 8x8 are asked for, and 0 inputs have four axes"), "{none}");
}

// ---- ONNX's named sizes --------------------------------------------------------------------------

fn onnx_with_names(folder: &Folder) -> PathBuf {
    let name = |name: &str| proto::Dimension { dim_value: None, dim_param: Some(name.into()) };
    let size = |size| proto::Dimension { dim_value: Some(size), dim_param: None };
    let value = |name: &str, dims: Vec<proto::Dimension>| proto::ValueInfo {
        name: name.into(),
        ty: Some(proto::Type {
            tensor_type: Some(proto::TensorType { elem_type: 1, shape: Some(proto::Shape { dim: dims }) }),
        }),
    };
    let sizes = || vec![name("batch"), size(3), name("height"), name("width")];
    let node = proto::Node {
        input: vec!["image".into()],
        output: vec!["y".into()],
        name: "r".into(),
        op_type: "Relu".into(),
        ..Default::default()
    };
    let graph = proto::Graph {
        node: vec![node],
        name: "g".into(),
        input: vec![value("image", sizes())],
        output: vec![value("y", sizes())],
        ..Default::default()
    };
    let opset = proto::OperatorSet { domain: String::new(), version: 17 };
    let model = proto::Model { ir_version: 8, opset_import: vec![opset], graph: Some(graph), ..Default::default() };
    let path = folder.path("named.onnx");
    std::fs::write(&path, model.encode_to_vec()).unwrap();
    path
}

#[test]
fn sizes_that_a_model_names_are_given_by_name() {
    let folder = Folder::new();
    let path = onnx_with_names(&folder);
    let open = Compiler::new().compile_file(&path).map(drop).unwrap_err().to_string();
    assert!(open.contains("or sizes by name: --shape height=224 --shape width=224"), "{open}");
    let sized = || Compiler::new().shape("height", [6]).shape("width", [10]);
    let model = sized().compile_file(&path).unwrap();
    assert_eq!((model.inputs()[0].shape(), model.batched()), (&[1, 3, 6, 10][..], Some(1)));
    let four = sized().shape("batch", [4]).compile_file(&path).unwrap();
    assert_eq!((four.inputs()[0].shape(), four.batched()), (&[4, 3, 6, 10][..], Some(4)));
    assert_eq!(run(&four, &values(&[5, 3, 6, 10])), run(&model, &values(&[5, 3, 6, 10])));
    let pictures = Compiler::new().pictures(8, 4).compile_file(&path).unwrap();
    assert_eq!(pictures.inputs()[0].shape(), [1, 3, 8, 4]);
    // What was named is not needed to make the model again.
    let compiled = folder.path("named.netc");
    sized().compile_file_to(&path, &compiled).unwrap();
    assert_eq!(
        netc::internals::driver::recompile(&compiled, ModelOptions::default()).unwrap().inputs(),
        model.inputs()
    );

    let refused = |compiler: Compiler| compiler.compile_file(&path).map(drop).unwrap_err().to_string();
    let unknown = refused(sized().shape("depth", [2]));
    assert!(
        unknown
            .contains("a shape is given for `depth`, but the inputs are image, and named sizes batch, height, width")
    );
    assert!(refused(sized().shape("height", [2, 2])).contains("the size `height` is one number, not [2, 2]"));
    assert!(refused(sized().shape("batch", [4]).batch(2)).contains("the number of images is asked to be 2 and 4"));
    assert!(import(&path, &Options { shapes: [("height".into(), vec![0])].into(), ..Options::default() }).is_err());
}

// ---- The cache -----------------------------------------------------------------------------------

struct Cached {
    folder: Folder,
    cache: Cache,
}

impl Cached {
    fn new() -> Self {
        let folder = Folder::new();
        let cache = Cache::open(folder.path("cache")).unwrap();
        Self { folder, cache }
    }

    fn model(&self, compiler: &Compiler) -> Model {
        self.folder.source().compile_cached(std::slice::from_ref(compiler), &self.cache).unwrap()
    }

    /// Compiled models in the folder, with the time at which each was written.
    fn models(&self) -> Vec<(PathBuf, u64)> {
        use std::os::unix::fs::MetadataExt;
        let files = std::fs::read_dir(self.folder.path("cache")).unwrap().map(|entry| entry.unwrap());
        let models = files.filter(|file| file.path().extension().is_some_and(|kind| kind == "netc"));
        let mut models: Vec<_> = models.map(|file| (file.path(), file.metadata().unwrap().ino())).collect();
        models.sort();
        models
    }
}

#[test]
fn a_network_is_compiled_into_the_cache_once() {
    let case = Cached::new();
    let first = case.model(&seeded());
    let made = case.models();
    assert_eq!(made.len(), 1);
    let input = values(&[2, 3, 12, 12]);
    let again = case.model(&seeded());
    assert_eq!((run(&again, &input), case.models()), (run(&first, &input), made.clone()));
    // Written again, but with the same bytes.
    case.folder.write("m.net", SPEC);
    case.model(&seeded());
    assert_eq!(case.models(), made);
    // Other settings, other sizes, another text: other models.
    case.model(&seeded().batch(2));
    case.model(&seeded().pictures(16, 16));
    assert_eq!(case.models().len(), 3);
    case.folder.write("m.net", &SPEC.replace("linear(10)", "linear(11)"));
    assert_eq!(case.model(&seeded()).outputs()[0].shape(), [1, 11]);
    // Weights that come to lie beside the text are taken.
    let weights = seeded();
    let beside = Compiler { weights: netc::internals::driver::WeightsFrom::Beside, ..weights };
    case.model(&beside);
    let count = case.models().len();
    std::fs::write(case.folder.path("m.safetensors"), b"no weights").unwrap();
    assert!(case.folder.source().compile_cached(&[beside], &case.cache).is_err());
    assert_eq!(case.models().len(), count);
}

#[test]
fn damaged_entries_are_compiled_anew() {
    let case = Cached::new();
    let input = values(&[1, 3, 12, 12]);
    let expected = run(&case.model(&seeded()), &input);
    let (path, _) = case.models().remove(0);
    let whole = std::fs::read(&path).unwrap();
    for damage in [vec![], whole[..whole.len() / 2].to_vec(), {
        // A number of the weights.
        let mut bytes = whole.clone();
        bytes[4096 + 40] ^= 1;
        bytes
    }] {
        std::fs::write(&path, damage).unwrap();
        assert_eq!(run(&case.model(&seeded()), &input), expected);
        assert!(std::fs::read(&path).unwrap() == whole);
    }
    let list = path.with_extension("json");
    for damage in ["", "{", "[1]", r#"{"files":[],"model":"../m.net"}"#, r#"{"files":[],"model":"/etc/passwd"}"#] {
        std::fs::write(&list, damage).unwrap();
        assert_eq!(run(&case.model(&seeded()), &input), expected);
    }
}

#[test]
fn a_cache_has_a_limit_and_the_oldest_go() {
    let case = Cached::new();
    case.model(&seeded());
    let size = std::fs::metadata(&case.models()[0].0).unwrap().len();
    let small = Cached { cache: case.cache.clone().limited_to(size * 5 / 2), ..case };
    let first = small.models().remove(0);
    let wait = || std::thread::sleep(std::time::Duration::from_millis(20));
    wait();
    small.model(&seeded().seed(4));
    wait();
    // Used, so that the other one is older.
    small.model(&seeded());
    wait();
    small.model(&seeded().seed(5));
    let left = small.models();
    assert!(left.len() == 2 && left.contains(&first), "{left:?}");
    // One that is larger than all that is allowed stays until the next comes.
    let tiny = Cached { cache: small.cache.clone().limited_to(1), ..small };
    // What somebody else put there is none of the cache's.
    let own = tiny.folder.path("cache").join("own.netc");
    std::fs::write(&own, "something").unwrap();
    tiny.model(&seeded().seed(6));
    assert!(own.is_file());
    std::fs::remove_file(&own).unwrap();
    assert_eq!(tiny.models().len(), 1);
}

#[test]
fn processes_share_a_cache() {
    let case = Cached::new();
    let expected = run(&folderless(&seeded()), &values(&[1, 3, 12, 12]));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for seed in [3, 4, 3] {
                    let cache = Cache::open(case.folder.path("cache")).unwrap().limited_to(1);
                    let model = case.folder.source().compile_cached(&[seeded().seed(seed)], &cache).unwrap();
                    if seed == 3 {
                        assert_eq!(run(&model, &values(&[1, 3, 12, 12])), expected);
                    }
                }
            });
        }
    });
}

fn folderless(compiler: &Compiler) -> Model {
    NetworkSource::Text { name: "m.net".into(), text: SPEC.into() }.compile(compiler).unwrap()
}

#[test]
fn a_text_in_memory_is_cached_by_what_it_says_and_uses() {
    let folder = Folder::new();
    folder.write("part.net", "netc 1\nmodule part(c) { conv(c, 1) }\n");
    let text = "netc 1\nuse \"part.net\"\nmodel m { input x: f32[N,2,4,4]  part(3)  output y }\n";
    let source = NetworkSource::Text { name: folder.path("text.net"), text: text.into() };
    let cache = Cache::open(folder.path("cache")).unwrap();
    let compile = || source.compile_cached(&[seeded()], &cache).unwrap();
    let steps = compile().steps().len();
    assert_eq!(compile().steps().len(), steps);
    folder.write("part.net", "netc 1\nmodule part(c) { conv(c, 3, pad = 1)  max_pool(2)  conv(c, 1) }\n");
    assert!(compile().steps().len() > steps, "what is used is another now");
}

#[cfg(unix)]
#[test]
fn a_cache_that_others_write_to_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new();
    let path = folder.path("open");
    std::fs::create_dir(&path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777)).unwrap();
    let error = Cache::open(&path).unwrap_err().to_string();
    assert!(error.contains("others may write to it"), "{error}");
    let file = Cache::open(folder.path("m.net")).unwrap_err().to_string();
    assert!(file.starts_with("the cache "), "{file}");
}

/// What finds no room in the cache is compiled, and not kept.
#[cfg(target_os = "linux")]
#[test]
fn a_full_cache_is_no_error() {
    let here = tempfile::tempdir().unwrap();
    let spec = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/lenet5.net");
    // `ulimit` counts blocks of 512 bytes: the model takes more.
    let line = "ulimit -f 8; exec \"$0\" run \"$1\" --noise 1 --seed 1 --cache cache";
    let mut command = std::process::Command::new("sh");
    command.args(["-c", line]).arg(super::cli::netc().get_program()).arg(spec).current_dir(here.path());
    let ran = command.output().unwrap();
    let errors = String::from_utf8(ran.stderr).unwrap();
    assert!(ran.status.success() && errors.contains("nothing is kept: "), "{errors}");
    let kept: Vec<_> = std::fs::read_dir(here.path().join("cache")).unwrap().map(|f| f.unwrap().file_name()).collect();
    assert!(kept.iter().all(|name| name == "lock"), "{kept:?}");
}
