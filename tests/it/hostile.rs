//! Broken and hostile files: what `fuzz/` does for hours, for a second. Seeds are read whole, then
//! damaged in the ways in which files are damaged on purpose. A panic is a failure; so is what takes
//! longer than a reader may.

#[path = "../../fuzz/readers.rs"]
mod readers;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Damaged versions of each target's seeds, where no time is given, and what they may take together.
const VERSIONS: usize = 2000;
const BUDGET: Duration = Duration::from_secs(3);
/// What one file may take, in a build without optimization on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
/// Larger files are cut: growth by copying is to end somewhere.
const LARGEST: usize = 1 << 16;

struct Random(u64);

impl Random {
    /// SplitMix64 (Steele, Lea and Flood 2014).
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    fn part(&mut self, length: usize) -> std::ops::Range<usize> {
        let begin = self.below(length + 1);
        begin..(begin + self.below(40)).min(length)
    }
}

/// Numbers that break arithmetic, as varints, fixed width and digits.
const NUMBERS: [&[u8]; 14] = [
    b"\x00",
    b"\x01",
    b"\x7f",
    b"\xff",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    b"\x80\x80\x80\x80\x08",
    b"\xff\xff\xff\xff",
    b"\xff\xff\xff\xff\xff\xff\xff\x7f",
    b"\x00\x00\x00\x80",
    b"0",
    b"-1",
    b"4294967296",
    b"9223372036854775807",
    b"1e999",
];

fn damage(bytes: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    for _ in 0..1 + random.below(4) {
        let part = random.part(bytes.len());
        match random.below(8) {
            0 if !bytes.is_empty() => {
                let at = random.below(bytes.len());
                bytes[at] ^= 1 << random.below(8);
            }
            1 if !bytes.is_empty() => {
                let at = random.below(bytes.len());
                bytes[at] = random.next() as u8;
            }
            2 => drop(bytes.drain(part)),
            3 => bytes.truncate(random.below(bytes.len() + 1)),
            4 => {
                let copy = bytes[part].to_vec();
                let at = random.below(bytes.len() + 1);
                bytes.splice(at..at, copy.repeat(1 + random.below(6)));
            }
            5 => {
                let theirs = other[random.part(other.len())].to_vec();
                bytes.splice(part, theirs);
            }
            _ => {
                // Over what is there: lengths around it stay right.
                let number = NUMBERS[random.below(NUMBERS.len())];
                let end = (part.start + number.len()).min(bytes.len());
                bytes.splice(part.start..end, number.iter().copied());
            }
        }
    }
    bytes.truncate(LARGEST);
}

/// Whether it takes no longer than it may, once at least: a process may be stopped for a while.
fn is_quick(read: impl Fn()) -> bool {
    (0..3).any(|_| {
        let begin = Instant::now();
        read();
        begin.elapsed() < PATIENCE
    })
}

fn seeds(folder: &str) -> Vec<Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(folder);
    let mut paths: Vec<PathBuf> = std::fs::read_dir(path).unwrap().map(|e| e.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty());
    paths.iter().map(|p| std::fs::read(p).unwrap()).collect()
}

/// Reads seeds and what becomes of them. A file that makes the reader panic is kept.
fn attack(name: &str, seeds: &[Vec<u8>], read: fn(&[u8])) {
    let begin = Instant::now();
    let seconds: Option<u64> = std::env::var("NETC_HOSTILE_SECONDS").ok().and_then(|s| s.parse().ok());
    let goes_on = |i: usize| match seconds {
        None => i < VERSIONS && begin.elapsed() < BUDGET,
        Some(s) => begin.elapsed() < Duration::from_secs(s),
    };
    seeds.iter().for_each(|seed| read(seed));
    // Each time another part of the endless list, where there is time to look for something new.
    let first = seconds.map_or(0, |_| std::process::id() as u64);
    let mut i = 0;
    while goes_on(i) {
        let mut random = Random(first << 32 | i as u64);
        let mut bytes = seeds[i % seeds.len()].clone();
        let other = &seeds[random.below(seeds.len())];
        damage(&mut bytes, other, &mut random);
        let survived = std::panic::catch_unwind(|| is_quick(|| read(&bytes)));
        if !survived.is_ok_and(|quick| quick) {
            let path = std::env::temp_dir().join(format!("netc-hostile-{name}-{first}-{i}"));
            std::fs::write(&path, &bytes).unwrap();
            panic!("{name} {i} panics or takes too long: {}", path.display());
        }
        i += 1;
    }
}

#[test]
fn onnx_models() {
    attack("onnx", &seeds("onnx"), readers::onnx);
}

#[test]
fn weights_of_all_formats() {
    for format in ["pth", "npz", "safetensors"] {
        attack(format, &seeds(format), readers::weights);
    }
}

#[test]
fn arrays() {
    attack("npy", &seeds("npy"), readers::npy);
}

#[test]
fn pictures() {
    attack("picture", &seeds("picture"), readers::picture);
}

#[test]
fn steps_from_metadata() {
    attack("prepare", &seeds("prepare"), readers::prepare);
}

#[test]
fn specs() {
    attack("net", &seeds("net"), readers::net);
}

/// Texts of one kind of line, each of which took a time that grew with the square of its length.
#[test]
fn specs_of_many_lines_of_one_kind() {
    let model = |body: &str| format!("model m {{\n input x: f32[N, 3, 8, 8]\n{body} relu\n output y\n}}\n");
    let lines = |line: &dyn Fn(usize) -> String| -> String { (0..200).map(line).collect() };
    let texts = [
        lines(&|i| format!("let v{i} = {}\n", if i > 0 { format!("v{}", i - 1) } else { "0".into() })) + &model(""),
        lines(&|i| format!("module m{i} {{ relu }}\n")) + &model(&lines(&|i| format!(" mn{i}\n"))),
        model(&"(]".repeat(1000)),
        model(&("(a) ".repeat(500) + ")\n")),
        model(&lines(&|i| format!(" resdual {{\n relu{i}\n }}\n"))),
        model(&lines(&|i| format!(" // {i}\n"))),
        model(
            &(lines(&|i| format!(" a{i}: relu // {i}\n")) + &format!(" let b = [{}1]  // long\n", "1, ".repeat(500))),
        ),
        model(&lines(&|i| format!(" l{i}{{1}}: relu\n let _v{i} = zz{i}\n"))),
    ];
    for (i, text) in texts.iter().enumerate() {
        assert!(is_quick(|| readers::net(format!("netc 1\n{text}").as_bytes())), "text {i}");
    }
}

/// A small model as `netc compile` writes it with these flags.
fn compiled(flags: &[&str]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let spec = "netc 1\nmodel m {\n    input x: f32[N, 3, 8, 8]\n    preprocess x { resize 9  center_crop 8  scale 1/255 }\n    a: conv(4, 3)\n    relu\n    output y\n}\n";
    std::fs::write(folder.path().join("m.net"), spec).unwrap();
    let arguments = [&["compile", "m.net", "-q"], flags].concat();
    let ran = super::cli::netc().args(arguments).current_dir(folder.path()).output().unwrap();
    assert!(ran.status.success(), "{ran:?}");
    let compiled = std::fs::read(folder.path().join("m.netc")).unwrap();
    assert!(compiled.len() < LARGEST);
    compiled
}

#[test]
fn compiled_models() {
    attack("netc", &[compiled(&[])], readers::netc);
}

#[test]
fn portable_models() {
    let file = compiled(&["--portable"]);
    readers::portable(&file);
    attack("portable", &[vec![file], seeds("portable")].concat(), readers::portable);
}
