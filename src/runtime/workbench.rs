//! Single steps of an image, run on memory that the caller fills: for whoever tries generated code
//! before it becomes a model.

#![allow(unsafe_code)] // The call of generated code, and floats in a mapping.

use std::io;
use std::ops::{Deref, DerefMut, Range};

use super::arena::Memory;
use super::code::Code;
use super::denormals::FlushDenormals;
use crate::artifact::{Cause, Image, Port};
use crate::cpu;
use crate::tensor::Element;

/// An image whose steps can be run one at a time.
pub(crate) struct Workbench<'i> {
    image: &'i Image,
    code: Code,
}

impl<'i> Workbench<'i> {
    /// # Errors
    /// Where the image contradicts itself, needs features that this CPU lacks, or there is no
    /// executable memory.
    pub(crate) fn new(image: &'i Image) -> Result<Self, Cause> {
        let missing = cpu::missing(&image.manifest.features);
        if !missing.is_empty() {
            return Err(Cause::MissingFeatures { missing });
        }
        let check = image.manifest.check(image.code.len(), image.weights.len());
        check.map_err(|message| Cause::Malformed { message })?;
        Ok(Self { image, code: Code::new(&image.code)? })
    }

    /// An arena of zeros for the image's activations.
    ///
    /// # Errors
    /// Where the memory is not to be had.
    pub(crate) fn activations(&self) -> io::Result<Activations> {
        let floats = (self.image.manifest.arena_bytes as usize).div_ceil(Element::F32.bytes());
        Ok(Activations { memory: Memory::new(Element::F32.bytes() * floats)?, floats })
    }

    /// Runs some tasks of a step on this thread. The model's inputs are zeros.
    ///
    /// # Errors
    /// Where memory is not to be had.
    ///
    /// # Panics
    /// Where there is no such step or task, or the activations are of another image.
    pub(crate) fn run(&self, step: usize, tasks: Range<u32>, activations: &mut Activations) -> io::Result<()> {
        let manifest = &self.image.manifest;
        assert!(manifest.states.is_empty(), "steps that change states are not tried");
        let record = &manifest.steps[step];
        assert!(tasks.end <= record.grid, "{} has {} tasks", record.name, record.grid);
        // What code reads and writes is this image's size.
        let bytes = (Element::F32.bytes() * activations.floats) as u64;
        assert!(bytes >= manifest.arena_bytes, "activations of another image");
        let function = self.code.function(record.entry).expect("the manifest was checked");
        let mut scratch = Memory::new(manifest.scratch_bytes as usize)?;
        let sized = |port: &Port| vec![0f32; port.shape.iter().product()];
        let mut ports: Vec<Vec<f32>> = manifest.inputs.iter().chain(&manifest.outputs).map(sized).collect();
        let mut frame = vec![activations.memory.base(), self.image.weights.as_ptr().cast_mut()];
        frame.extend(ports.iter_mut().map(|p| p.as_mut_ptr().cast::<u8>()));
        let _flush = FlushDenormals::new();
        // SAFETY: the image was made for this CPU; the arena (of the image's size, borrowed uniquely),
        // scratch and ports are this call's alone, the weights are only read; the tasks are the step's.
        unsafe { function(frame.as_ptr(), scratch.base(), i64::from(tasks.start), i64::from(tasks.end)) };
        Ok(())
    }
}

/// The memory of an image's activations, as floats.
pub(crate) struct Activations {
    memory: Memory,
    floats: usize,
}

impl Activations {
    fn first(&self) -> *const f32 {
        self.memory.first().cast()
    }
}

impl Deref for Activations {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        // SAFETY: the mapping holds as many floats, all bits of which are values.
        unsafe { std::slice::from_raw_parts(self.first(), self.floats) }
    }
}

impl DerefMut for Activations {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as above; the mapping is borrowed uniquely.
        unsafe { std::slice::from_raw_parts_mut(self.memory.base().cast(), self.floats) }
    }
}
