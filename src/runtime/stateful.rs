//! Models whose runs change what the next run reads: steps of training.

#![allow(unsafe_code)] // Vouches for the frame that generated code works on, and floats in a mapping.

use super::arena::{Arena, Memory};
use super::execute::Timings;
use super::model::Model;
use super::run::{RunError, check_count};
use crate::artifact::{Port, Slot, StateRecord};
use crate::tensor::Element;

/// Values of an input.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Values<'a> {
    F32(&'a [f32]),
    I64(&'a [i64]),
}

impl Values<'_> {
    fn len(&self) -> usize {
        match self {
            Values::F32(values) => values.len(),
            Values::I64(values) => values.len(),
        }
    }

    fn element(&self) -> Element {
        match self {
            Values::F32(_) => Element::F32,
            Values::I64(_) => Element::I64,
        }
    }

    fn first(&self) -> *const u8 {
        match self {
            Values::F32(values) => values.as_ptr().cast(),
            Values::I64(values) => values.as_ptr().cast(),
        }
    }
}

/// A compiled model with its states, row-major f32. One run at a time changes them.
pub(crate) struct Stateful {
    model: Model,
    states: Memory,
    arena: Arena,
    /// Another model that works on the same states.
    then: Option<(Model, Arena)>,
}

impl Stateful {
    /// A model whose states are zeros.
    ///
    /// # Errors
    /// Where there is no memory for states and activations, or they are more than the model may take.
    pub(crate) fn new(model: Model) -> Result<Stateful, RunError> {
        let states = Memory::zeros(model.manifest().state_bytes as usize)?;
        let arena = model.new_arena(&model.programs[0])?;
        Ok(Stateful { model, states, arena, then: None })
    }

    /// Adds a model that [`Self::run_then`] runs on the same states.
    ///
    /// # Errors
    /// Where there is no memory for its activations.
    ///
    /// # Panics
    /// Where it has other states.
    pub(crate) fn followed_by(self, model: Model) -> Result<Stateful, RunError> {
        let [own, other] = [self.model.manifest(), model.manifest()].map(|m| (&m.states, m.state_bytes));
        assert_eq!(own, other, "both models have the same states in the same places");
        let arena = model.new_arena(&model.programs[0])?;
        Ok(Stateful { then: Some((model, arena)), ..self })
    }

    /// Bytes that runs take, of both models.
    pub(crate) fn memory(&self) -> u64 {
        let then = self.then.as_ref().map_or(0, |(model, _)| model.arena_bytes());
        self.model.run_memory().saturating_add(then)
    }

    pub(crate) fn model(&self) -> &Model {
        &self.model
    }

    /// Names, shapes and places of the states.
    pub(crate) fn states(&self) -> &[StateRecord] {
        &self.model.manifest().states
    }

    /// The values of the nth state.
    pub(crate) fn state(&self, index: usize) -> &[f32] {
        let (offset, elements) = self.place(index);
        // SAFETY: the manifest was checked: the state lies within the mapping, at a multiple of four bytes.
        unsafe { std::slice::from_raw_parts(self.states.first().add(offset).cast(), elements) }
    }

    /// The values of the nth state, to be changed between runs.
    pub(crate) fn state_mut(&mut self, index: usize) -> &mut [f32] {
        let (offset, elements) = self.place(index);
        // SAFETY: as above, and the mapping is borrowed uniquely.
        unsafe { std::slice::from_raw_parts_mut(self.states.base().add(offset).cast(), elements) }
    }

    fn place(&self, index: usize) -> (usize, usize) {
        let state = &self.states()[index];
        (state.offset as usize, state.shape.iter().product())
    }

    /// Runs the model once, all of its inputs and outputs whole, and leaves the states as it makes them.
    ///
    /// # Errors
    /// Where inputs or outputs are not the model's; then the states are as before.
    pub(crate) fn run(
        &mut self,
        inputs: &[Values<'_>],
        outputs: &mut [&mut [f32]],
        timings: Option<&mut Timings>,
    ) -> Result<(), RunError> {
        Self::run_on(&self.model, &mut self.arena, &mut self.states, inputs, outputs, timings)
    }

    /// Runs the model that follows, where there is one, as [`Self::run`] does. Its only output is a number that nobody
    /// needs.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub(crate) fn run_then(&mut self, inputs: &[Values<'_>]) -> Result<(), RunError> {
        match &mut self.then {
            Some((model, arena)) => {
                let mut number = [0.0];
                Self::run_on(model, arena, &mut self.states, inputs, &mut [&mut number], None)
            }
            None => Ok(()),
        }
    }

    fn run_on(
        model: &Model,
        arena: &mut Arena,
        states: &mut Memory,
        inputs: &[Values<'_>],
        outputs: &mut [&mut [f32]],
        mut timings: Option<&mut Timings>,
    ) -> Result<(), RunError> {
        let manifest = model.manifest();
        check_count("inputs", manifest.inputs.len(), inputs.len())?;
        check_count("outputs", manifest.outputs.len(), outputs.len())?;
        for (port, values) in manifest.inputs.iter().zip(inputs) {
            // All but what the code reads as it lies is f32 in memory.
            let taken = if port.raw { port.element } else { Element::F32 };
            assert_eq!(taken, values.element(), "whoever calls knows what {} takes", port.name);
            check_length(port, values.len())?;
        }
        for (port, values) in manifest.outputs.iter().zip(outputs.iter()) {
            check_length(port, values.len())?;
        }
        if let Some(timings) = timings.as_deref_mut() {
            timings.0.resize(manifest.steps.len(), Default::default());
        }
        let counts = [inputs.len(), outputs.len()];
        for (i, input) in inputs.iter().enumerate() {
            arena.frame[Slot::Input(i as u32).index(counts)] = input.first().cast_mut();
        }
        for (i, output) in outputs.iter_mut().enumerate() {
            arena.frame[Slot::Output(i as u32).index(counts)] = output.as_mut_ptr().cast();
        }
        arena.frame[Slot::States.index(counts)] = states.base();
        model.execute(&model.programs[0], arena, timings)
    }
}

/// A model of a step takes whole batches only.
fn check_length(port: &Port, given: usize) -> Result<(), RunError> {
    let expected = port.elements();
    if expected == given {
        return Ok(());
    }
    Err(RunError::Size { name: port.name.clone(), shape: format!("{:?}", port.shape), expected, given })
}
