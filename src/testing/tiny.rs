//! A model made by hand: two steps of a few instructions each, with weights of several blocks, so
//! that file and runtime are tested without the compiler.
//!
//! `output = 2 · input + weights[0..] + weights[SECOND..]`, one task an element.
//!
//! From outside of the crate one gets what is sound only: the model, and files of it.

use iced_x86::code_asm::*;
use std::path::Path;

use crate::artifact::{
    About, Bundle, Destination, Image, Images, Manifest, Port, StepRecord, Texts, WeightRange, Writer,
};
use crate::runtime::{Model, ModelOptions};

/// Elements of one image.
pub const WIDTH: usize = 96;
/// Where the second step's weights begin, in the third block.
pub const SECOND: usize = 2 << 20;

/// What the model's definition gives for whole images of [`WIDTH`] values.
pub fn expected(input: &[f32]) -> Vec<f32> {
    let weight = |i: usize| (i % WIDTH) as f32;
    input.iter().enumerate().map(|(i, x)| 2.0 * x + weight(i) - 3.0 * weight(i)).collect()
}

/// The model for batches of `batch`, its weights packed at `destination`.
pub(crate) fn image(batch: usize, destination: &Destination) -> Image {
    let elements = batch * WIDTH;
    let mut weights = destination.region(SECOND + 4 * elements).unwrap();
    for i in 0..elements {
        let value = (i % WIDTH) as f32;
        weights[4 * i..][..4].copy_from_slice(&value.to_ne_bytes());
        weights[SECOND + 4 * i..][..4].copy_from_slice(&(-3.0 * value).to_ne_bytes());
    }
    let first = step_code(16, None, 0, 0);
    let entry = first.len().next_multiple_of(16);
    let mut code = first;
    code.resize(entry, 0xcc);
    code.extend(step_code(0, Some(16), SECOND, 24));
    let port = |name: &str| Port::new(name, &[batch, WIDTH].into());
    Image {
        manifest: Manifest {
            name: "tiny".into(),
            features: vec!["sse2".into()],
            inputs: vec![port("input")],
            outputs: vec![port("output")],
            images: Some(Images::Independent { batch }),
            steps: vec![step("first", 0, elements, 0), step("second", entry, elements, SECOND)],
            states: vec![],
            state_bytes: 0,
            arena_bytes: 4 * elements as u64,
            arena_lower_bound: 4 * elements as u64,
            scratch_bytes: 64,
        },
        code,
        weights,
    }
}

/// Facts about the model, as a file of it states them.
pub fn about() -> About {
    let labels = ["zero", "one"].map(String::from).to_vec();
    About { netc: "0.0.0".into(), preprocess: vec![None], labels, recipe: None }
}

/// The texts that a file of it holds.
pub fn texts() -> Texts {
    Texts { sources: vec!["netc 1\n".into()], ir: "graph @tiny {}\n".into() }
}

/// The model as what becomes a file.
pub(crate) fn bundle(batch: usize, destination: &Destination) -> Bundle {
    Bundle::new(image(batch, destination), about(), texts())
}

/// The model in memory.
pub fn model(batch: usize, options: ModelOptions) -> Model {
    model_of_images(batch, Some(Images::Independent { batch }), options)
}

/// The model in memory, under that name.
pub fn named_model(name: &str, batch: usize, options: ModelOptions) -> Model {
    let mut image = image(batch, &Destination::Memory);
    image.manifest.name = name.into();
    Model::from_image(image, about(), texts(), options).expect("it runs everywhere")
}

/// The model in memory, of which that is said.
pub fn model_of_images(batch: usize, images: Option<Images>, options: ModelOptions) -> Model {
    let mut image = image(batch, &Destination::Memory);
    image.manifest.images = images;
    Model::from_image(image, about(), texts(), options).expect("it runs everywhere")
}

/// Writes the model to a file, packing straight into it.
pub fn write(path: &Path, batch: usize) {
    let writer = Writer::create(path).unwrap();
    let bundle = bundle(batch, &writer.destination().unwrap());
    writer.finish(&bundle).unwrap();
}

fn step(name: &str, entry: usize, elements: usize, weights: usize) -> StepRecord {
    StepRecord {
        name: name.into(),
        op: "add".into(),
        algorithm: "scalar".into(),
        location: None,
        entry: entry as u64,
        grid: elements as u32,
        task_costs: vec![],
        addresses: false,
        flops: elements as u64,
        bytes: 12 * elements as u64,
        estimate_ns: 1.5,
        weights: Some(WeightRange { offset: weights as u64, bytes: 4 * elements as u64 }),
    }
}

/// `to[i] = a[i] + weights[i]`, and `+ b[i]` where there is one, for the tasks `i`. `a`, `b` and
/// `to` are places in the frame; `weights` is an offset.
fn step_code(a: i32, b: Option<i32>, weights: usize, to: i32) -> Vec<u8> {
    assemble(|asm| {
        let (mut head, mut done) = (asm.create_label(), asm.create_label());
        asm.mov(r8, qword_ptr(rdi + a))?;
        asm.mov(r9, qword_ptr(rdi + to))?;
        asm.mov(r10, qword_ptr(rdi + 8))?;
        asm.mov(r11, qword_ptr(rdi + b.unwrap_or(a)))?;
        asm.set_label(&mut head)?;
        asm.cmp(rdx, rcx)?;
        asm.jge(done)?;
        asm.movss(xmm0, dword_ptr(r8 + rdx * 4))?;
        if b.is_some() {
            asm.addss(xmm0, dword_ptr(r11 + rdx * 4))?;
        }
        asm.addss(xmm0, dword_ptr(r10 + rdx * 4 + weights as i32))?;
        asm.movss(dword_ptr(r9 + rdx * 4), xmm0)?;
        asm.inc(rdx)?;
        asm.jmp(head)?;
        asm.set_label(&mut done)?;
        asm.ret()
    })
}

fn assemble(body: impl Fn(&mut CodeAssembler) -> Result<(), IcedError>) -> Vec<u8> {
    let mut asm = CodeAssembler::new(64).unwrap();
    body(&mut asm).unwrap();
    asm.assemble(0).unwrap()
}
