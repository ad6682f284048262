//! Objects, linked by the system's C compiler and run: the bits are the runtime's, and nothing is called that is not
//! there.
//!
//! `tests/it/objects/main.c` is the caller of all of them. It puts what an object reads and writes right before pages that
//! nobody may touch.

use netc::{Compiler, Model, ModelOptions, ObjectForm, ObjectOptions, Target};
use std::path::{Path, PathBuf};
use std::process::Command;

const TWO_PORTS: &str = "netc 1
model two_ports {
    input int: f32[N, 3, 17, 19]
    input other: f32[N, 3, 17, 19]
    b: conv(13, 3, pad = 1)
    from(int)
    a: conv(13, 3, pad = 1)
    add(b)
    relu
    global_avg_pool
    flatten
    output sums
    from(a)
    max_pool(2)
    output Int
}
";

/// Winograd kernels, steps of many tasks whose costs differ, scratch for each worker.
const WIDE: &str = "netc 1
model wide {
    input image: f32[N, 16, 30, 30]
    conv(64, 3, pad = 1)
    relu
    conv(72, 3, pad = 1)
    max_pool(2)
    conv(40, 3, groups = 4)
    softmax
    output maps
}
";

const LEVELS: &str = "netc 1
model levels {
    input image: f32[N, 3, 20, 20]
    quantize(scale = 0.02, zero_point = 128)
    conv(32, 3, pad = 1, weight_bits = 8)
    relu
    quantize(scale = 0.05)
    conv(16, 3, weight_bits = 8)
    quantize(scale = 0.1, zero_point = 120)
    global_avg_pool
    flatten
    output y
}
";

/// As many rows exist as the data say.
const FOUND: &str = "netc 1
model found {
    input rows: f32[6, 3]
    input kept: f32[6]
    from(rows)
    compact(kept)
    output boxes
}
";

struct Case {
    folder: tempfile::TempDir,
    model: Model,
}

/// A network's object `x.o` and header in a folder, and the network in memory.
fn case(text: &str, compiler: Compiler, options: ObjectOptions) -> Case {
    let folder = tempfile::tempdir().unwrap();
    let spec = folder.path().join("network.net");
    std::fs::write(&spec, text).unwrap();
    case_of(&spec, folder, compiler, options)
}

fn case_of(spec: &Path, folder: tempfile::TempDir, compiler: Compiler, options: ObjectOptions) -> Case {
    let options = ObjectOptions { prefix: Some("net".into()), ..options };
    let compiler = compiler.options(ModelOptions::default().threads(1));
    let network = compiler.optimized(spec).unwrap();
    compiler.write_object(&network, &folder.path().join("x.o"), &options).unwrap();
    Case { model: compiler.compile(&network).unwrap(), folder }
}

fn zoo(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models").join(path)
}

fn command(program: &str, arguments: &[&str], here: &Path) -> String {
    let ran = Command::new(program).args(arguments).current_dir(here).output().unwrap();
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{program} {arguments:?}: {:?} {said}", ran.status);
    String::from_utf8(ran.stdout).unwrap()
}

const STRICT: &[&str] = &["-O1", "-Wall", "-Wextra", "-Werror", "-pedantic"];

fn compile(compiler: &str, arguments: &[&str], here: &Path) {
    command(compiler, &[STRICT, arguments].concat(), here);
}

impl Case {
    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Pointers to all ports in the order of the ports, as C writes arguments.
    fn call(&self) -> String {
        (0..self.model.inputs().len() + self.model.outputs().len()).map(|i| format!("port[{i}], ")).collect()
    }

    /// `main.c` for this network, linked in some way.
    fn link(&self, flags: &[&str], objects: &[&str]) {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/objects/main.c");
        let elements = |ports: &[netc::Port]| ports.iter().map(|p| format!("{}, ", p.elements())).collect::<String>();
        let defined = [
            format!("-DPORTS={}", self.call()),
            format!("-DINPUTS={}", elements(self.model.inputs())),
            format!("-DOUTPUTS={}", elements(self.model.outputs())),
        ];
        let defined: Vec<&str> = defined.iter().map(String::as_str).collect();
        let rest = ["-std=c11", "-I.", source.to_str().unwrap(), "-o", "main"];
        compile("cc", &[&rest[..], &defined, flags, objects, &["-lpthread"]].concat(), self.path());
    }

    /// Runs the program in all ways in which an object can be called, and compares with the runtime.
    fn compare(&self) {
        let mut seed = 1u32;
        let mut number = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // Some numbers are so small that a run takes them for zeros.
            if seed >> 28 == 0 { f32::from_bits(seed >> 12) } else { (seed >> 8) as f32 / (1 << 22) as f32 - 2.0 }
        };
        let inputs: Vec<Vec<f32>> =
            self.model.inputs().iter().map(|p| (0..p.elements()).map(|_| number()).collect()).collect();
        let mut outputs: Vec<Vec<f32>> = self.model.outputs().iter().map(|p| vec![0.0; p.elements()]).collect();
        let slices: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
        self.model.run(&slices, &mut outputs.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>()).unwrap();
        let bytes = |ports: &[Vec<f32>]| ports.iter().flatten().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
        std::fs::write(self.path().join("in"), bytes(&inputs)).unwrap();
        for how in [&["run"][..], &["loop", "1"], &["loop", "3"], &["threads", "2"], &["threads", "7"]] {
            command("./main", how, self.path());
            let found = std::fs::read(self.path().join("out")).unwrap();
            assert!(found == bytes(&outputs), "{} {how:?}: other bits than the runtime's", self.model.name());
            std::fs::remove_file(self.path().join("out")).unwrap();
        }
    }
}

fn check(case: &Case) {
    case.link(&[], &["x.o"]);
    case.compare();
    assert_eq!(command("nm", &["-u", "x.o"], case.path()), "");
}

#[test]
fn networks_of_the_zoo_compute_what_the_runtime_does() {
    for (spec, compiler) in [("digits/digits.net", Compiler::new()), ("lenet5.net", Compiler::new().seed(3).batch(3))] {
        check(&case_of(&zoo(spec), tempfile::tempdir().unwrap(), compiler, ObjectOptions::default()));
    }
}

#[test]
fn all_units_and_kinds_of_kernels_compute_what_the_runtime_does() {
    for text in [TWO_PORTS, WIDE, LEVELS] {
        for target in ["host", "baseline", "avx2"] {
            let target = Target::parse(target).unwrap();
            if target.runs_here() {
                check(&case(text, Compiler::new().seed(5).target(target), ObjectOptions::default()));
            }
        }
    }
}

#[test]
fn the_header_tells_which_rows_exist() {
    let case = case(FOUND, Compiler::new(), ObjectOptions::default());
    check(&case);
    let header = std::fs::read_to_string(case.path().join("x.h")).unwrap();
    let told = "After a run as many entries of axis 0 exist as \"boxes.count\" says; others mean nothing.";
    assert!(header.contains(told), "{header}");
}

#[test]
fn programs_and_libraries_at_any_address_have_objects() {
    let case = case(WIDE, Compiler::new().seed(2), ObjectOptions::default());
    for flags in [&["-fno-pie", "-no-pie"][..], &["-fpie", "-pie"], &["-static"]] {
        case.link(flags, &["x.o"]);
        case.compare();
    }
    // Text that would have to be changed where it is loaded is an error here.
    compile("cc", &["-shared", "-Wl,-z,text,-z,defs", "-nostdlib", "x.o", "-o", "libx.so"], case.path());
    case.link(&["-Wl,-rpath,$ORIGIN"], &["./libx.so"]);
    case.compare();
    let segments = command("readelf", &["-lW", "main"], case.path());
    let stack = segments.lines().find(|line| line.contains("GNU_STACK")).unwrap();
    assert!(stack.contains("RW ") && !stack.contains("RWE"), "{stack}");
}

#[test]
fn a_static_library_links_by_its_index() {
    let options = ObjectOptions { form: ObjectForm::StaticLibrary, ..ObjectOptions::default() };
    let case = case(TWO_PORTS, Compiler::new().seed(2), options);
    std::fs::rename(case.path().join("x.o"), case.path().join("libx.a")).unwrap();
    assert_eq!(command("ar", &["t", "libx.a"], case.path()), "net.o\n");
    let index = command("nm", &["-s", "libx.a"], case.path());
    assert!(
        ["net_run", "net_run_parallel", "net_supported"].iter().all(|name| index.contains(&format!("{name} in net.o"))),
        "{index}"
    );
    case.link(&[], &["-L.", "-lx"]);
    case.compare();
}

#[test]
fn weights_may_be_apart() {
    let folder = tempfile::tempdir().unwrap();
    let weights = Some(folder.path().join("x.bin"));
    let case = case(WIDE, Compiler::new().seed(2), ObjectOptions { weights, ..ObjectOptions::default() });
    std::fs::copy(folder.path().join("x.bin"), case.path().join("x.bin")).unwrap();
    case.link(&["-DAPART"], &["x.o"]);
    case.compare();
    assert!(!command("nm", &["x.o"], case.path()).contains("weights"));
    // Those of another network are told apart.
    let path = case.path().join("x.bin");
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let ran = Command::new("./main").arg("run").current_dir(case.path()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&ran.stderr), "status 2\n");
}

#[test]
fn several_networks_are_one_program_also_of_cpp() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    for (name, text) in [("first", TWO_PORTS), ("second", LEVELS)] {
        let spec = here.join("network.net");
        std::fs::write(&spec, text).unwrap();
        let compiler = Compiler::new().seed(1);
        let network = compiler.optimized(&spec).unwrap();
        let options = ObjectOptions { prefix: Some(name.into()), ..ObjectOptions::default() };
        compiler.write_object(&network, &here.join(name).with_extension("o"), &options).unwrap();
    }
    let program = "#include \"first.h\"\n#include \"second.h\"\n#include \"first.h\"\n
static float a[FIRST_INT__ELEMENTS], b[FIRST_OTHER_ELEMENTS], c[FIRST_SUMS_ELEMENTS], d[FIRST_INT_ELEMENTS];
static float x[SECOND_IMAGE_ELEMENTS], y[SECOND_Y_ELEMENTS];
static const int shape[SECOND_IMAGE_RANK] = SECOND_IMAGE_SHAPE;
ALIGNED(FIRST_ARENA_ALIGN) static unsigned char first[FIRST_ARENA_SIZE];
ALIGNED(SECOND_ARENA_ALIGN) static unsigned char second[SECOND_ARENA_SIZE];
int main(void) {
    if (shape[3] != 20 || first_run(a, b, c, d, first) != FIRST_OK) return 1;
    if (second_run(x, y, second + 4) != SECOND_BAD_ARGUMENT) return 2;
    if (second_run(x, 0, second) != SECOND_BAD_ARGUMENT) return 3;
    if (second_run_parallel(x, y, second, 0, 0, 1) != SECOND_BAD_ARGUMENT) return 4;
    return second_run(x, y, second);
}\n";
    std::fs::write(here.join("main.c"), program).unwrap();
    std::fs::write(here.join("main.cpp"), program).unwrap();
    compile("cc", &["-std=c11", "-DALIGNED=_Alignas", "main.c", "first.o", "second.o", "-o", "main"], here);
    command("./main", &[], here);
    compile("c++", &["-std=c++11", "-DALIGNED=alignas", "main.cpp", "first.o", "second.o", "-o", "main"], here);
    command("./main", &[], here);
}

#[test]
fn the_same_network_gives_the_same_object() {
    let bytes = || {
        let case = case(LEVELS, Compiler::new().seed(1), ObjectOptions::default());
        ["x.o", "x.h"].map(|name| std::fs::read(case.path().join(name)).unwrap())
    };
    assert!(bytes() == bytes());
}

/// The code of 64-bit ARM runs nowhere here; that the object is one, a reader of such files says.
#[test]
fn objects_for_other_machines_are_whole() {
    let folder = tempfile::tempdir().unwrap();
    let spec = folder.path().join("network.net");
    std::fs::write(&spec, TWO_PORTS).unwrap();
    let compiler = Compiler::new().seed(1).target(Target::parse("aarch64").unwrap());
    let network = compiler.optimized(&spec).unwrap();
    compiler.write_object(&network, &folder.path().join("x.o"), &ObjectOptions::default()).unwrap();
    let said = command("readelf", &["-hrsW", "x.o"], folder.path());
    for expected in ["AArch64", "two_ports_run_parallel", "R_AARCH64_CALL26", "R_AARCH64_ADR_PREL_PG_HI21"] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
}

/// `examples/bare_loop`, on a picture of a seven and one of a two.
#[test]
fn the_example_of_a_bare_loop_reads_digits() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let compiler = Compiler::new();
    let network = compiler.optimized(&zoo("digits/digits.net")).unwrap();
    compiler.write_object(&network, &here.join("digits.o"), &ObjectOptions::default()).unwrap();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/bare_loop");
    let [sketch, board] = ["sketch.c", "board_posix.c"].map(|name| example.join(name));
    compile("cc", &["-std=c11", "-ffreestanding", "-I.", "-c", sketch.to_str().unwrap()], here);
    let undefined = command("nm", &["-u", "sketch.o"], here);
    let undefined: Vec<&str> =
        undefined.split_whitespace().filter(|word| !["U", "_GLOBAL_OFFSET_TABLE_"].contains(word)).collect();
    assert_eq!(undefined, ["camera_read", "digits_run", "serial_print"]);
    compile("cc", &["-std=c11", board.to_str().unwrap(), "sketch.o", "digits.o", "-o", "main"], here);
    let pictures = ["seven-0.png", "two-0.png"].map(|name| {
        let picture = image::open(zoo("digits/images").join(name)).unwrap().into_luma8();
        assert_eq!(picture.dimensions(), (28, 28));
        picture.into_raw()
    });
    std::fs::write(here.join("pictures"), pictures.concat()).unwrap();
    let said = command("sh", &["-c", "./main < pictures"], here);
    assert_eq!(said, "seven\ntwo\n");
}
