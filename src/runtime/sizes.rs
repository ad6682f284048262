//! The sizes that a model is compiled for, and by which programs it runs a number of images.
//!
//! Programs that differ in the number of images alone are for one size. A run of it takes any number of images: the
//! programs are chosen so that the planner's estimates add up to the least time, and where the last batch is not full, some of
//! its rows are unused. So six images with programs for 1, 4 and 16 are 4 + 1 + 1, and fifteen are 16 with a row unused where
//! that takes less time than 4 + 4 + 4 + 1 + 1 + 1.

use super::execute::Timings;
use super::model::Model;
use super::program::Program;
use super::run::RunError;
use crate::artifact::{About, Manifest, Port};

/// The programs of one size.
pub(crate) struct Choice {
    /// By their place in the model, in the order in which they were asked for.
    pub programs: Vec<usize>,
    /// The program to run first where one more images are left than the place says; up to the largest batch.
    next: Vec<usize>,
    /// Where more are left: the program that takes the least time an image.
    rest: usize,
}

impl Choice {
    /// One program, which runs all.
    pub(crate) fn only(program: usize) -> Self {
        Self { programs: vec![program], next: vec![], rest: program }
    }

    fn new(places: Vec<usize>, programs: &[Program]) -> Self {
        if let [only] = places[..] {
            return Self::only(only);
        }
        let batch = |place: usize| programs[place].batch();
        let cost = |place: usize| programs[place].estimate_ns().max(0.0);
        let largest = places.iter().map(|&place| batch(place)).max().unwrap_or(1);
        // The larger batch first, which is taken where estimates tell nothing.
        let mut by_batch = places.clone();
        by_batch.sort_by_key(|&place| std::cmp::Reverse(batch(place)));
        let an_image = |place: usize| cost(place) / batch(place) as f64;
        let cheapest = by_batch.iter().copied().reduce(|a, b| if an_image(b) < an_image(a) { b } else { a });
        let rest = cheapest.expect("a size has a program");
        let (mut least, mut next) = (vec![0.0], vec![]);
        for images in 1..=largest {
            let whole = |place: usize| cost(place) + least[images.saturating_sub(batch(place))];
            let best = by_batch.iter().copied().reduce(|a, b| if whole(b) < whole(a) { b } else { a });
            let best = best.expect("a size has a program");
            least.push(whole(best));
            next.push(best);
        }
        Self { programs: places, next, rest }
    }

    /// The program for the next images, of which there are so many, at least one.
    pub(crate) fn next(&self, images: usize) -> usize {
        self.next.get(images - 1).copied().unwrap_or(self.rest)
    }
}

/// The sizes of programs that were checked.
pub(crate) fn choices(programs: &[Program]) -> Vec<Choice> {
    let mut sizes: Vec<Vec<usize>> = vec![];
    for (place, program) in programs.iter().enumerate() {
        let same = |size: &&mut Vec<usize>| programs[size[0]].manifest.is_same_size(&program.manifest);
        match sizes.iter_mut().find(same) {
            Some(size) => size.push(place),
            None => sizes.push(vec![place]),
        }
    }
    sizes.into_iter().map(|places| Choice::new(places, programs)).collect()
}

/// A model for one of the sizes that it is compiled for.
#[derive(Clone, Copy)]
pub struct ModelSize<'m> {
    model: &'m Model,
    choice: usize,
}

impl<'m> ModelSize<'m> {
    pub(super) fn new(model: &'m Model, choice: usize) -> Self {
        Self { model, choice }
    }

    fn choice(&self) -> &'m Choice {
        &self.model.choices[self.choice]
    }

    pub(super) fn program(&self) -> &'m Program {
        &self.model.programs[self.choice().programs[0]]
    }

    fn manifest(&self) -> &'m Manifest {
        &self.program().manifest
    }

    /// In the order in which a run takes them; the first size is the number of images of [`Self::batches`]' first.
    pub fn inputs(&self) -> &'m [Port] {
        &self.manifest().inputs
    }

    /// In the order in which a run gives them.
    pub fn outputs(&self) -> &'m [Port] {
        &self.manifest().outputs
    }

    /// Labels, preprocessing of pictures of this size, and how the program was made.
    pub fn about(&self) -> &'m About {
        &self.program().about
    }

    /// Images at once, where a run takes any number; else `None`.
    pub fn batched(&self) -> Option<usize> {
        self.manifest().batched()
    }

    /// Images that each of the size's programs computes at once.
    pub fn batches(&self) -> impl Iterator<Item = usize> + 'm {
        let model = self.model;
        self.choice().programs.iter().map(|&place| model.programs[place].batch())
    }

    /// Whether inputs have these shapes, with any number of images where that is free.
    pub(super) fn takes<'s>(&self, mut shapes: impl Iterator<Item = &'s [usize]>) -> bool {
        let free = self.batched().is_some();
        let mut ports = self.inputs().iter();
        let fits = |shape: &[usize]| {
            let Some(port) = ports.next() else { return false };
            let own = port.shape();
            shape.len() == own.len() && shape.get(1..) == own.get(1..) && (free || shape.first() == own.first())
        };
        shapes.all(fits) && ports.next().is_none()
    }

    /// How many images there are in values of these lengths, the inputs' and then the outputs', as [`Self::run`] counts them.
    ///
    /// # Errors
    /// Where a length is no port's, or they do not agree.
    pub fn images(&self, lengths: impl Iterator<Item = usize>) -> Result<usize, RunError> {
        Ok(self.program().count_images(lengths)?.unwrap_or(1))
    }

    /// Runs on values of this size; otherwise as [`Model::run`].
    ///
    /// # Errors
    /// As [`Model::run`].
    pub fn run(&self, inputs: &[&[f32]], outputs: &mut [&mut [f32]]) -> Result<(), RunError> {
        self.run_timed(inputs, outputs, None)
    }

    pub(super) fn run_timed(
        &self,
        inputs: &[&[f32]],
        outputs: &mut [&mut [f32]],
        timings: Option<&mut Timings>,
    ) -> Result<(), RunError> {
        self.model.run_choice(self.choice(), inputs, outputs, timings)
    }
}

impl std::fmt::Display for ModelSize<'_> {
    /// The inputs' sizes, `N` for a free number of images: `image [N,3,224,224]`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (place, port) in self.inputs().iter().enumerate() {
            let mut sizes: Vec<String> = port.shape().iter().map(usize::to_string).collect();
            if let (Some(_), Some(first)) = (self.batched(), sizes.first_mut()) {
                *first = "N".into();
            }
            let separator = if place > 0 { ", " } else { "" };
            write!(f, "{separator}{} [{}]", port.name(), sizes.join(","))?;
        }
        Ok(())
    }
}
