//! Layers of several kernels, of any geometry: as the passes leave them, compiled for every unit, against their own
//! definition.

use crate::codegen::testing::check;
use crate::interpreter;
use crate::ir::Phase;
use crate::ops::pool_nd::WindowPool;
use crate::ops::recurrent::{Cell, Direction};
use crate::ops::*;
use crate::passes::{self, Selection};
use crate::tensor::Shape;
use crate::testing::{GraphBuilder, random_inputs, randomize_weights, relu};
use crate::weights::SplitMix;

/// The op on inputs of those shapes, then a function of its elements. Whether its shapes fit.
fn agrees(op: impl Into<Op>, shapes: &[&[usize]]) -> bool {
    let op = op.into();
    let inputs: Vec<Shape> = shapes.iter().map(|&s| Shape::new(s)).collect();
    if op.infer(&inputs.iter().collect::<Vec<_>>()).is_err() {
        return false;
    }
    let mut b = GraphBuilder::new("composed", Phase::Infer);
    let values: Vec<_> = inputs.into_iter().map(|s| b.input(s)).collect();
    let y = b.add(op.clone(), &values);
    let z = b.add(relu(), &[y]);
    // The layer's own result is an output as well in half of them.
    let mut graph = b.finish(&[y, z][usize::from(shapes[0][0] == 1)..]);
    randomize_weights(&mut graph, 3);
    let inputs = random_inputs(&graph, 5);
    let expected = interpreter::run(&graph, &inputs).unwrap();
    let before = graph.to_string();
    passes::run(&mut graph, &Selection::default());
    for (found, expected) in interpreter::run(&graph, &inputs).unwrap().iter().zip(&expected) {
        let (worst, scale) = found.difference(expected);
        assert!(worst <= 1e-4 * scale.max(1e-3), "differs by {worst} of {scale}:\n{before}\n{graph}");
    }
    check(graph);
    true
}

/// Numbers for one case.
struct Draw(SplitMix);

impl Draw {
    fn size(&mut self, least: usize, most: usize) -> usize {
        least + self.0.below(most - least + 1)
    }

    fn sizes(&mut self, count: usize, least: usize, most: usize) -> Vec<usize> {
        (0..count).map(|_| self.size(least, most)).collect()
    }
}

#[test]
fn convolutions_of_sequences_and_volumes() {
    let mut fit = 0;
    for seed in 0..60 {
        let mut draw = Draw(SplitMix(seed));
        let axes = if draw.0.below(3) == 0 { 1 } else { 3 };
        let groups = [1, 1, 2, 4][draw.0.below(4)];
        let transposed = draw.0.below(2) == 0;
        let op = ConvNd {
            channels: groups * draw.size(1, 6),
            kernel: draw.sizes(axes, 1, 3),
            stride: draw.sizes(axes, 1, 3),
            pad: draw.sizes(2 * axes, 0, 2),
            dilation: draw.sizes(axes, 1, 2),
            groups,
            bias: draw.0.below(2) == 0,
            transposed,
            output_pad: if transposed { draw.sizes(axes, 0, 1) } else { vec![0; axes] },
        };
        let shape = [draw.sizes(1, 1, 2), vec![groups * draw.size(1, 5)], draw.sizes(axes, 2, 6)].concat();
        fit += usize::from(agrees(op, &[&shape]));
    }
    assert!(fit > 20, "{fit} of the cases fit");
}

#[test]
fn pools_of_sequences_and_volumes() {
    let mut fit = 0;
    for seed in 0..60 {
        let mut draw = Draw(SplitMix(seed));
        let axes = if draw.0.below(3) == 0 { 1 } else { 3 };
        let op = PoolNd {
            kind: [WindowPool::Max, WindowPool::Avg, WindowPool::AvgWithPad][draw.0.below(3)],
            kernel: draw.sizes(axes, 1, 3),
            stride: draw.sizes(axes, 1, 3),
            pad: draw.sizes(2 * axes, 0, 1),
            dilation: draw.sizes(axes, 1, 2),
            ceil: draw.0.below(2) == 0,
        };
        let shape = [draw.sizes(2, 1, 5), draw.sizes(axes, 2, 7)].concat();
        fit += usize::from(agrees(op, &[&shape]));
    }
    assert!(fit > 20, "{fit} of the cases fit");
}

#[test]
fn values_beside_each_image() {
    for seed in 0..20 {
        let mut draw = Draw(SplitMix(seed));
        let rank = draw.size(2, 4);
        let axis = draw.size(1, rank - 1);
        let shape = [draw.sizes(1, 1, 3), draw.sizes(rank - 1, 1, 5)].concat();
        let beside = |draw: &mut Draw| {
            let mut beside = shape.clone();
            (beside[0], beside[axis]) = (1, draw.size(1, 4));
            beside
        };
        let mut b = GraphBuilder::new("beside", Phase::Infer);
        let x = b.input(Shape::new(shape.clone()));
        let token = b.add(Constant::of(beside(&mut draw)), &[]);
        let shape = beside(&mut draw);
        let values = (0..shape.iter().product()).map(|_| draw.0.below(9) as f32 - 4.0).collect();
        let given = b.add(ConstantValues { shape, values }, &[]);
        let one = b.add(relu(), &[token]);
        let many = b.add(ExpandImages {}, &[one, x]);
        let y = b.add(Concat { axis }, &[token, given, x, one, many]);
        let z = b.add(relu(), &[y]);
        let mut graph = b.finish(&[y, z]);
        randomize_weights(&mut graph, 3);
        let inputs = random_inputs(&graph, 5);
        let expected = interpreter::run(&graph, &inputs).unwrap();
        passes::run(&mut graph, &Selection::default());
        assert_eq!(interpreter::run(&graph, &inputs).unwrap(), expected, "{graph}");
        check(graph);
    }
}

#[test]
fn recurrent_layers() {
    for seed in 0..40 {
        let mut draw = Draw(SplitMix(seed));
        let cell = [Cell::Lstm, Cell::Gru, Cell::GruResetBefore, Cell::Tanh, Cell::Relu][seed as usize % 5];
        let direction = [Direction::Forward, Direction::Reverse, Direction::Both][draw.0.below(3)];
        let layers = draw.size(1, 2);
        let op = Recurrent {
            cell,
            hidden: draw.size(1, 40),
            layers,
            direction,
            batch_first: draw.0.below(2) == 0,
            bias: draw.0.below(3) > 0,
            cells: cell == Cell::Lstm && layers == 1 && draw.0.below(2) == 0,
        };
        let [outer, inner] = [draw.size(1, 4), draw.size(1, 4)];
        let images = if op.batch_first { outer } else { inner };
        let state = [layers * direction.count(), images, op.hidden];
        let x = [outer, inner, draw.size(1, 20)];
        let states = draw.0.below(op.operands().1);
        let shapes: Vec<&[usize]> = [&x[..]].into_iter().chain((0..states).map(|_| &state[..])).collect();
        assert!(agrees(op, &shapes), "seed {seed}");
    }
}

#[test]
fn convolutions_with_computed_weights() {
    let mut fit = 0;
    for seed in 0..60 {
        let mut draw = Draw(SplitMix(seed));
        let groups = [1, 1, 2, 4][draw.0.below(4)];
        let transposed = draw.0.below(2) == 0;
        let pair = |draw: &mut Draw, least, most| [draw.size(least, most), draw.size(least, most)];
        let op = DynamicConv2d {
            stride: pair(&mut draw, 1, 2),
            pad: [(); 4].map(|()| draw.size(0, 2)),
            dilation: pair(&mut draw, 1, 2),
            groups,
            transposed,
            output_pad: if transposed { pair(&mut draw, 0, 1) } else { [0, 0] },
        };
        let (inputs, outputs) = (draw.size(1, 20), draw.size(1, 20));
        let [h, w] = pair(&mut draw, 1, 3);
        let weight = if transposed { [inputs * groups, outputs, h, w] } else { [outputs * groups, inputs, h, w] };
        let x = [1 + draw.0.below(2), inputs * groups, draw.size(3, 9), draw.size(3, 9)];
        let bias = [outputs * groups];
        let shapes: &[&[usize]] = if draw.0.below(2) == 0 { &[&x, &weight] } else { &[&x, &weight, &bias] };
        fit += usize::from(agrees(op, shapes));
    }
    assert!(fit > 20, "{fit} of the cases fit");
}

#[test]
fn grids_that_numbers_tell() {
    use crate::ops::dynamic_quantize::DynamicPart::{Levels, Numbers, Scale, Steps, ZeroPoint};
    for gives in [Numbers, Steps, Levels, Scale, ZeroPoint] {
        for shape in [&[2, 19, 5, 3][..], &[1, 3, 1, 1], &[2, 37], &[1, 5, 7]] {
            assert!(agrees(DynamicQuantize { gives }, &[shape]), "{gives} {shape:?}");
        }
    }
}

#[test]
fn a_weight_that_a_network_computes() {
    let mut b = GraphBuilder::new("modulated", Phase::Infer);
    let x = b.input([1, 20, 9, 11]);
    let style = b.input([1, 20, 1, 1]);
    let weight = b.add(Constant::of(vec![24, 20, 3, 3]), &[]);
    let bias = b.add(Constant::of(vec![24]), &[]);
    let modulated = b.add(crate::testing::binary(binary::BinaryKind::Mul), &[weight, style]);
    let y = b.add(
        DynamicConv2d {
            stride: [1, 1],
            pad: [1; 4],
            dilation: [1, 1],
            groups: 1,
            transposed: false,
            output_pad: [0, 0],
        },
        &[x, modulated, bias],
    );
    let y = b.add(relu(), &[y]);
    let mut graph = b.finish(&[y]);
    randomize_weights(&mut graph, 3);
    passes::run(&mut graph, &Selection::default());
    check(graph);
}

#[test]
fn taps_that_move() {
    let mut fit = 0;
    for seed in 0..40 {
        let mut draw = Draw(SplitMix(seed));
        let (groups, offset_groups) = ([1, 1, 2][draw.0.below(3)], [1, 2, 3][draw.0.below(3)]);
        let pair = |draw: &mut Draw, least, most| [draw.size(least, most), draw.size(least, most)];
        let op = DeformConv2d {
            channels: groups * draw.size(1, 9),
            kernel: pair(&mut draw, 1, 3),
            stride: pair(&mut draw, 1, 2),
            pad: [(); 4].map(|()| draw.size(0, 2)),
            dilation: pair(&mut draw, 1, 2),
            groups,
            offset_groups,
            bias: draw.0.below(2) == 0,
        };
        let x = [draw.size(1, 2), 6 * draw.size(1, 3), draw.size(3, 8), draw.size(3, 8)];
        let Ok(output) = op.unmoved().infer(&[&Shape::new(x)]) else { continue };
        let taps = op.kernel[0] * op.kernel[1] * offset_groups;
        let offset = [x[0], 2 * taps, output[2], output[3]];
        let mask = [x[0], taps, output[2], output[3]];
        let shapes: &[&[usize]] = if draw.0.below(2) == 0 { &[&x, &offset] } else { &[&x, &offset, &mask] };
        fit += usize::from(agrees(op, shapes));
    }
    assert!(fit > 20, "{fit} of the cases fit");
}
