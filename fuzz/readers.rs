//! What is fuzzed: each function reads bytes as a user could give them, and goes on with what was
//! read as the commands do. None may panic, take memory beyond its limits or run without end. The
//! fuzzers call them, and so does the suite (`tests/it/hostile.rs`) with seeds that it damages.

use std::io::{Cursor, Write};
use std::path::Path;
use std::sync::Arc;

use netc::internals::diagnostic::Sources;
use netc::internals::elaborate::{Options, elaborate};
use netc::internals::image::{self, Picture};
use netc::internals::interop::onnx::{self, ModelFile};
use netc::internals::interop::text;
use netc::internals::ir;
use netc::internals::preprocess::{Preprocess, Resize};
use netc::internals::weights::entries::Buffer;
use xxhash_rust::xxh3::xxh3_64;

/// Weights are looked at up to this number of elements: reading them costs memory by right.
const LOOKED_AT: usize = 1 << 20;
/// Lines of a graph whose shapes are mended.
const MENDED: usize = 32;

/// An ONNX model: to a graph, which holds what all graphs hold, and on to text.
pub fn onnx(data: &[u8]) {
    let Ok(file) = ModelFile::from_bytes(Path::new("/nowhere/model.onnx"), data.to_vec()) else { return };
    let Ok(graph) = onnx::import_file(&file, &onnx::Options::default()) else { return };
    ir::verify(&graph).expect("what is imported verifies");
    let Ok(written) = text::write(&graph, "", &[]) else { return };
    let mut sources = Sources::default();
    let root = sources.add("model.net", written.text);
    let none = |_: &Path| Err(std::io::ErrorKind::NotFound.into());
    // Networks beyond the language's limits are refused when the text is read.
    let _ = elaborate(&mut sources, root, &Options { loader: &none, ..Options::default() });
}

/// A file of weights of any format.
pub fn weights(data: &[u8]) {
    let buffer: Buffer = Arc::new(data.to_vec());
    let Ok(file) = netc::internals::weights::file::parse(&buffer) else { return };
    for entry in file.entries.iter().filter(|e| e.shape.checked_elements().is_some_and(|n| n <= LOOKED_AT)) {
        let values = entry.values();
        assert!(values.is_none_or(|v| (*v).as_ref().len() == entry.shape.elements()));
    }
}

/// An array.
pub fn npy(data: &[u8]) {
    let _ = netc::internals::npy::read_from(Cursor::new(data), Some(data.len() as u64));
    let _ = netc::internals::npy::read_from(Cursor::new(data), None);
}

/// Bytes that reading a fuzzed picture may take.
const PICTURE: u64 = 64 << 20;

/// A picture, and what becomes of it: an input of a network, by the steps that most networks have.
pub fn picture(data: &[u8]) {
    let Ok(picture) = image::decode(Cursor::new(data), Path::new("fuzzed"), image::Exif::Heeded, PICTURE) else {
        return;
    };
    assert_eq!(picture.levels.len(), picture.width * picture.height * picture.channels);
    let steps = [
        Preprocess { resize: Some(Resize::ShorterSide(20)), center_crop: Some([16; 2]), ..Preprocess::default() },
        Preprocess { center_crop: Some([16; 2]), invert: true, ..Preprocess::default() },
        Preprocess::usual([3, 16, 16]),
    ];
    for steps in &steps {
        for shape in [[1, 16, 16], [3, 16, 16]] {
            if let Ok(values) = picture.prepare(steps, shape) {
                assert_eq!(values.len(), shape.iter().product::<usize>());
            }
            let _ = picture.ten_crop(steps, shape);
        }
    }
}

/// The metadata of a compiled model that say how pictures become inputs, as its reader gets them, and
/// pictures that are prepared by them: large, small, narrow.
pub fn prepare(data: &[u8]) {
    let Ok(steps) = serde_json::from_slice::<Preprocess>(data) else { return };
    let picture = |width: usize, height: usize, channels: usize| {
        let levels = (0..width * height * channels).map(|i| (i * 7) as u8).collect();
        Picture { width, height, channels, levels }
    };
    for picture in [picture(1, 1, 1), picture(40, 30, 3), picture(1, 3000, 3), picture(3000, 1, 1)] {
        for side in [1, 8, 224] {
            for channels in [1, 3, 4] {
                let shape = [channels, side, side];
                let made = [picture.prepare(&steps, shape), picture.ten_crop(&steps, shape)];
                for (values, images) in made.into_iter().zip([1, 10]) {
                    assert!(values.is_ok() <= steps.check(shape).is_ok(), "what is not right is not carried out");
                    assert!(values.map_or(true, |v| v.len() == images * shape.iter().product::<usize>()));
                }
            }
        }
    }
}

/// A spec: its mistakes, or a graph that verifies; and its layout, which reads back.
pub fn net(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(formatted) = netc::internals::syntax::format(text) {
        assert_eq!(
            netc::internals::syntax::format(&formatted).as_deref().ok(),
            Some(formatted.as_str()),
            "formatting twice"
        );
    }
    let mut sources = Sources::default();
    let root = sources.add("fuzzed.net", text);
    let none = |_: &Path| Err(std::io::ErrorKind::NotFound.into());
    if let Ok(made) = elaborate(&mut sources, root, &Options { loader: &none, ..Options::default() }) {
        ir::verify(&made.graph).expect("what is elaborated verifies");
    }
}

/// A compiled model: opened with all of its checksums, as it is and sealed anew. It is not run: who
/// can write the file can write its code.
pub fn netc(data: &[u8]) {
    open(data);
    if let Some(sealed) = sealed(data) {
        open(&sealed);
    }
}

#[allow(unsafe_code)]
fn open(data: &[u8]) {
    let mut file = tempfile::NamedTempFile::new().expect("there is room for a file");
    file.write_all(data).expect("there is room for a file");
    let _ = netc::internals::artifact::describe(file.path());
    let eager = netc::ModelOptions::default().threads(1).verify(netc::internals::runtime::Verify::Eager);
    // SAFETY: it is opened only; none of its code is run.
    let _ = unsafe { netc::Model::open_with(file.path(), eager) };
}

/// A portable model, as it is and sealed anew: checked and compiled where it is opened. And the text of
/// a graph, which is what such a file is trusted with: what verifies compiles, or says why not.
pub fn portable(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        return graph(text);
    }
    for file in [Some(data.to_vec()), sealed(data)].into_iter().flatten() {
        let mut open = tempfile::NamedTempFile::new().expect("there is room for a file");
        open.write_all(&file).expect("there is room for a file");
        let compiler = netc::Compiler::new().options(netc::ModelOptions::default().threads(1).memory(1 << 24));
        if let Ok(network) = compiler.read_portable(open.path()) {
            compile(&network.graph);
        }
    }
}

fn graph(text: &str) {
    let Ok(graph) = ir::parse(&with_shapes(text)) else { return };
    if ir::verify(&graph).is_ok() {
        assert_eq!(ir::parse(&graph.to_string()).expect("what is printed").to_string(), graph.to_string());
        compile(&graph);
    }
}

/// The text with the shapes that follow from what it says: a damaged attribute changes those of all lines
/// behind it, and what lies behind this check is to be reached as well.
fn with_shapes(text: &str) -> String {
    let mut text = text.to_string();
    for _ in 0..MENDED {
        let Err(error) = ir::parse(&text) else { break };
        let Some(shape) = error.message.strip_prefix("the shape is ") else { break };
        let line = text.split('\n').take(error.line - 1).map(|line| line.len() + 1).sum::<usize>();
        let Some((start, _)) = text[line..].char_indices().nth(error.column - 1) else { break };
        let Some(length) = text[line + start..].find(']') else { break };
        text.replace_range(line + start..=line + start + length, shape);
    }
    text
}

/// Compiles what is small: the rest takes its time by right.
fn compile(graph: &ir::Graph) {
    let sizes = graph.order().into_iter().map(|id| graph.node(id).shape.elements());
    let weights = graph.weights.iter().map(|(_, w)| w.shape.elements());
    if sizes.chain(weights).sum::<usize>() <= 1 << 16 && graph.total_macs() <= 1 << 22 {
        let one = netc::ModelOptions::default().threads(1);
        let _ = netc::internals::testing::compiled(
            graph,
            &netc::internals::target::Target::host(),
            &Default::default(),
            one,
        );
    }
}

const PAGE: usize = 4096;
const SECTION_TABLE: usize = 48;

/// The file with places, lengths and checksums that agree with what it holds, as `netc::internals::artifact`
/// documents them: what lies behind these checks is to be reached as well. Weights, code and texts
/// have the length that the header says, where that can be; the metadata take what is left.
fn sealed(data: &[u8]) -> Option<Vec<u8>> {
    let mut page = data.get(..PAGE)?.to_vec();
    let mut rest = &data[PAGE..];
    let length = |section: usize| {
        let at = SECTION_TABLE + 32 * section + 16;
        u64::from_le_bytes(data[at..at + 8].try_into().expect("eight bytes")) as usize
    };
    let mut take = |bytes: usize| {
        let (taken, left) = rest.split_at(bytes.checked_next_multiple_of(PAGE).map_or(0, |n| n.min(rest.len())));
        rest = left;
        &taken[..bytes.min(taken.len())]
    };
    let (weights, code) = (take(length(0)), take(length(1)));
    let (metadata, texts) = rest.split_at(rest.len().saturating_sub(length(3).checked_next_multiple_of(PAGE)?));
    let mut body = vec![];
    for (i, section) in [weights, code, without_padding(metadata), without_padding(texts)].into_iter().enumerate() {
        let at = SECTION_TABLE + 32 * i;
        let begin = body.len();
        body.extend_from_slice(section);
        body.resize(body.len().next_multiple_of(PAGE), 0);
        page[at + 8..at + 16].copy_from_slice(&((PAGE + begin) as u64).to_le_bytes());
        page[at + 16..at + 24].copy_from_slice(&(section.len() as u64).to_le_bytes());
        // That of the weights is of a list in the metadata, which is left as it is.
        if i > 0 {
            page[at + 24..at + 32].copy_from_slice(&xxh3_64(&body[begin..]).to_le_bytes());
        }
    }
    page[32..40].copy_from_slice(&((PAGE + body.len()) as u64).to_le_bytes());
    let checksum = xxh3_64(&page[..PAGE - 8]);
    page[PAGE - 8..].copy_from_slice(&checksum.to_le_bytes());
    page.extend_from_slice(&body);
    Some(page)
}

fn without_padding(section: &[u8]) -> &[u8] {
    let end = section.iter().rposition(|&b| b != 0).map_or(0, |last| last + 1);
    &section[..end]
}
