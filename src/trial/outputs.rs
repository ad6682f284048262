//! What a whole network computes of random inputs, and how far two ways of computing it are apart.

use super::Error;
use crate::artifact::{About, Image, Texts};
use crate::runtime::{Model, ModelOptions};
use crate::tensor::{Element, Shape, Tensor};
use crate::weights::SplitMix;

/// Runs of a network, each on other inputs.
const RUNS: u64 = 2;

/// The outputs of an image's code for random inputs, of mean 0 and variance 1 as preprocessed pictures are about: the
/// same inputs each time.
///
/// # Errors
/// Where the code cannot be run here, or there is no memory.
pub(crate) fn outputs(image: Image, options: ModelOptions) -> Result<Vec<Tensor>, Error> {
    let model = Model::from_image(image, About::default(), Texts::default(), options)?;
    let mut all = vec![];
    for run in 0..RUNS {
        let mut random = SplitMix(run);
        let spread = 12f32.sqrt();
        let mut input = |dims: &[usize]| {
            let shape = Shape::new(dims);
            let values = (0..shape.elements()).map(|_| (random.uniform() - 0.5) * spread).collect();
            Tensor::new(shape, values)
        };
        let ports = model.inputs().iter();
        let inputs: Vec<Tensor> = ports.map(|port| input(&port.shape).into_element(port.element)).collect();
        all.extend(model.run_tensors(&inputs)?.into_iter().map(|output| output.into_element(Element::F32)));
    }
    Ok(all)
}

/// The largest difference, as a share of the largest value of the output that it is in; infinite where one is no number
/// and the other is.
pub(crate) fn difference(got: &[Tensor], expected: &[Tensor]) -> f64 {
    let of_output = |(got, expected): (&Tensor, &Tensor)| {
        let finite = || got.data().iter().zip(expected.data()).filter(|(_, e)| e.is_finite());
        let scale = finite().map(|(_, e)| f64::from(e.abs())).fold(0.0, f64::max);
        let worst = finite().map(|(g, e)| (f64::from(*g) - f64::from(*e)).abs());
        let worst = worst.fold(0.0, |a, b| if b.is_nan() { f64::INFINITY } else { f64::max(a, b) });
        if worst == 0.0 { 0.0 } else { worst / scale }
    };
    got.iter().zip(expected).map(of_output).fold(0.0, f64::max)
}
