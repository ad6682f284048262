//! ONNX's operators for layers of sequences and volumes, recurrent layers, and layers that sample images.

use std::ops::Range;

use super::super::onnx::proto::data_type;
use super::builder::OnnxBuilder;
use super::operators::{Result, conv, conv_transpose, float, int, ints, reshape, string, transpose, with_weights};
use crate::ir::NodeId;
use crate::ops::dynamic_quantize::DynamicPart;
use crate::ops::grid_sample::{Beyond, GridCoordinates, Sampling};
use crate::ops::pool_nd::WindowPool;
use crate::ops::recurrent::{Cell, Direction};
use crate::ops::{ConvNd, DynamicConv2d, DynamicQuantize, GridSample, Op, PoolNd, Recurrent, RoiAlign, RoiPool, Slice};

fn named(inputs: &[String]) -> Vec<&str> {
    inputs.iter().map(String::as_str).collect()
}

pub(super) fn conv_nd(b: &mut OnnxBuilder, id: NodeId, op: &ConvNd, x: &str) -> String {
    let inputs = with_weights(b, id, x, op.bias);
    let mut attributes = vec![
        ints("kernel_shape", &op.kernel),
        ints("strides", &op.stride),
        ints("pads", &op.pad),
        ints("dilations", &op.dilation),
        int("group", op.groups),
    ];
    if op.transposed {
        attributes.push(ints("output_padding", &op.output_pad));
    }
    b.node(if op.transposed { "ConvTranspose" } else { "Conv" }, &named(&inputs), attributes)
}

pub(super) fn pool_nd(b: &mut OnnxBuilder, id: NodeId, op: &PoolNd, x: &str) -> Result {
    let axes = op.kernel.len();
    let is_max = op.kind == WindowPool::Max;
    if !is_max && op.dilation.iter().any(|&d| d != 1) {
        return Err("average pooling with gaps came with operator set 19".into());
    }
    let (from, to) = (b.input_shape(id), b.shape(id));
    // What a last window reaches beyond the padding; engines disagree on what counts there.
    let beyond: Vec<usize> = (0..axes)
        .map(|i| {
            let reach = (to[i + 2] - 1) * op.stride[i] + (op.kernel[i] - 1) * op.dilation[i] + 1;
            reach.saturating_sub(from[i + 2] + op.pad[i] + op.pad[i + axes])
        })
        .collect();
    let mut pad = op.pad.clone();
    if op.ceil {
        if op.kind == WindowPool::AvgWithPad && beyond.iter().any(|&reach| reach > 0) && op.pad.iter().any(|&p| p > 0) {
            return Err("a window that hangs over padding which counts".into());
        }
        (0..axes).for_each(|i| pad[i + axes] += beyond[i]);
    }
    let counts = op.kind == WindowPool::AvgWithPad && op.pad.iter().any(|&p| p > 0);
    let mut attributes = vec![ints("kernel_shape", &op.kernel), ints("strides", &op.stride), ints("pads", &pad)];
    match is_max {
        true => attributes.push(ints("dilations", &op.dilation)),
        false => attributes.push(int("count_include_pad", counts.into())),
    }
    Ok(b.node(if is_max { "MaxPool" } else { "AveragePool" }, &[x], attributes))
}

/// Levels, scale and zero point, of which a node gives all.
pub(super) fn dynamic_quantize(b: &mut OnnxBuilder, id: NodeId, op: &DynamicQuantize, x: &str) -> String {
    let levels = b.node("DynamicQuantizeLinear", &[x], vec![]);
    let [scale, zero] = ["scale", "zero_point"].map(|what| b.further_result(what));
    let as_float =
        |b: &mut OnnxBuilder, value: &str| b.node("Cast", &[value], vec![int("to", data_type::FLOAT as usize)]);
    let sizes: Vec<i64> = vec![1; b.shape(id).rank()];
    match op.gives {
        DynamicPart::Numbers => b.node("DequantizeLinear", &[&levels, &scale, &zero], vec![]),
        DynamicPart::Levels => as_float(b, &levels),
        DynamicPart::Steps => {
            let [levels, zero] = [levels, zero].map(|value| as_float(b, &value));
            b.node("Sub", &[&levels, &zero], vec![])
        }
        DynamicPart::Scale => reshape(b, &scale, &sizes),
        DynamicPart::ZeroPoint => {
            let zero = as_float(b, &zero);
            reshape(b, &zero, &sizes)
        }
    }
}

pub(super) fn dynamic_conv(b: &mut OnnxBuilder, id: NodeId, op: &DynamicConv2d, operands: &[String]) -> Result {
    let shapes = b.graph.operand_shapes(id);
    let of = op.of_parameters(shapes[1], operands.len() == 3).map_err(|e| e.to_string())?;
    Ok(match of {
        Op::Conv2d(op) => conv(b, &op, operands),
        Op::ConvTranspose2d(op) => conv_transpose(b, &op, operands),
        other => return Err(format!("{} reads no computed weight", other.name())),
    })
}

/// Where ONNX's gates are among PyTorch's.
fn gates(cell: Cell) -> &'static [usize] {
    match cell {
        // i o f c of i f c o
        Cell::Lstm => &[0, 3, 1, 2],
        // z r h of r z n
        Cell::Gru | Cell::GruResetBefore => &[1, 0, 2],
        Cell::Tanh | Cell::Relu => &[0],
    }
}

pub(super) fn recurrent(b: &mut OnnxBuilder, id: NodeId, op: &Recurrent, operands: &[String]) -> Result {
    if op.cells && !are_last_cells(b, id, op) {
        return Err("LSTM gives the cells behind the last step only".into());
    }
    if op.layers > 1 && operands.len() > 1 {
        return Err("states of several layers at once".into());
    }
    let (directions, each) = (op.direction.count(), op.weights_each());
    let rows: Vec<i64> =
        gates(op.cell).iter().flat_map(|gate| gate * op.hidden..(gate + 1) * op.hidden).map(|row| row as i64).collect();
    let rows = b.ints(&rows);
    let (operator, activations): (_, &[&str]) = match op.cell {
        Cell::Lstm => ("LSTM", &[]),
        Cell::Gru | Cell::GruResetBefore => ("GRU", &[]),
        Cell::Tanh => ("RNN", &["Tanh"]),
        Cell::Relu => ("RNN", &["Relu"]),
    };
    let mut x = if op.batch_first { transpose(b, &operands[0], &[1, 0, 2]) } else { operands[0].clone() };
    for layer in 0..op.layers {
        let first = layer * directions * each;
        // `[D, rows, …]` of each kind of weight, with ONNX's gates in order.
        let of_kind = |b: &mut OnnxBuilder, kind: usize| {
            let of_direction = |b: &mut OnnxBuilder, d: usize| {
                let weight = b.weight(id, first + d * each + kind, None);
                let ordered = b.node("Gather", &[&weight, &rows], vec![int("axis", 0)]);
                let axes = b.ints(&[0]);
                b.node("Unsqueeze", &[&ordered, &axes], vec![])
            };
            let parts: Vec<String> = (0..directions).map(|d| of_direction(b, d)).collect();
            if directions == 1 { parts[0].clone() } else { b.node("Concat", &named(&parts), vec![int("axis", 0)]) }
        };
        let mut inputs = vec![x.clone(), of_kind(b, 0), of_kind(b, 1)];
        if op.bias {
            let biases = [of_kind(b, 2), of_kind(b, 3)];
            inputs.push(b.node("Concat", &named(&biases), vec![int("axis", 1)]));
        }
        if operands.len() > 1 {
            inputs.resize(5, String::new());
            inputs.extend(operands[1..].iter().cloned());
        }
        let mut attributes = vec![int("hidden_size", op.hidden)];
        attributes.push(string(
            "direction",
            match op.direction {
                Direction::Forward => "forward",
                Direction::Reverse => "reverse",
                Direction::Both => "bidirectional",
            },
        ));
        if op.cell == Cell::Gru {
            attributes.push(int("linear_before_reset", 1));
        }
        if !activations.is_empty() {
            attributes.push(super::operators::strings("activations", &activations.repeat(directions)));
        }
        // `[T, D, N, hidden]`
        let y = b.node(operator, &named(&inputs), attributes);
        let cells = op.cells.then(|| {
            b.further_result("hidden");
            b.further_result("cells")
        });
        let is_last = layer + 1 == op.layers;
        let perm = if is_last && op.batch_first { [2, 0, 1, 3] } else { [0, 2, 1, 3] };
        let y = transpose(b, &y, &perm);
        x = super::operators::reshape(b, &y, &[0, 0, -1]);
        if let Some(cells) = cells {
            // `[D, N, hidden]` for each step: of all but the last nobody reads them.
            let time = usize::from(op.batch_first);
            let mut sizes = [-1, -1, (directions * op.hidden) as i64];
            sizes[time] = 1;
            let cells = transpose(b, &cells, &[1, 0, 2]);
            let cells = super::operators::reshape(b, &cells, &sizes);
            let mut repeated = [1; 3];
            repeated[time] = b.shape(id)[time] as i64;
            let repeated = b.ints(&repeated);
            let cells = b.node("Expand", &[&cells, &repeated], vec![]);
            x = b.node("Concat", &[&x, &cells], vec![int("axis", 2)]);
        }
    }
    Ok(x)
}

/// Whether of an LSTM's cells only those behind a direction's last step are read.
fn are_last_cells(b: &OnnxBuilder, id: NodeId, op: &Recurrent) -> bool {
    let graph = b.graph;
    let (time, dims) = (usize::from(op.batch_first), b.shape(id).dims());
    let is_last = |steps: &Range<usize>, features: &Range<usize>| {
        (0..op.direction.count()).all(|d| {
            let first = (op.direction.count() + d) * op.hidden;
            let goes_back = op.direction == Direction::Reverse || d == 1;
            let last = if goes_back { 0 } else { dims[time] - 1 };
            features.start >= first + op.hidden || features.end <= first || *steps == (last..last + 1)
        })
    };
    let mut pending = vec![(id, 0..dims[time], 0..dims[2])];
    while let Some((value, steps, features)) = pending.pop() {
        if graph.is_output(value) && !is_last(&steps, &features) {
            return false;
        }
        for (user, _) in graph.users(value) {
            let within = |range: &Range<usize>, cut: &Slice| range.start + cut.start..range.start + cut.end;
            match graph.node(user).op() {
                Some(Op::Slice(cut)) if cut.step == 1 && cut.axis == time => {
                    pending.push((user, within(&steps, cut), features.clone()));
                }
                Some(Op::Slice(cut)) if cut.step == 1 && cut.axis == 2 => {
                    pending.push((user, steps.clone(), within(&features, cut)));
                }
                _ if is_last(&steps, &features) => {}
                _ => return false,
            }
        }
    }
    true
}

pub(super) fn grid_sample(b: &mut OnnxBuilder, op: &GridSample, operands: &[String]) -> Result {
    if op.coordinates == GridCoordinates::Pixels || op.beyond == Beyond::NearBorder {
        return Err("GridSample has no positions in pixels, nor a border of one pixel".into());
    }
    let mode = match op.mode {
        Sampling::Nearest => "nearest",
        Sampling::Bilinear => "bilinear",
        Sampling::Bicubic => "bicubic",
    };
    let beyond = match op.beyond {
        Beyond::Border => "border",
        Beyond::Reflection => "reflection",
        Beyond::Zeros | Beyond::NearBorder => "zeros",
    };
    let corners = op.coordinates == GridCoordinates::AlignCorners;
    let attributes = vec![string("mode", mode), string("padding_mode", beyond), int("align_corners", corners.into())];
    Ok(b.node("GridSample", &named(operands), attributes))
}

pub(super) fn roi_align(b: &mut OnnxBuilder, id: NodeId, op: &RoiAlign, operands: &[String]) -> String {
    let (boxes, images) = match b.graph.operand_shapes(id)[1][1] == 5 {
        true => {
            let [zero, one, five] = [0, 1, 5].map(|at| b.ints(&[at]));
            let images = b.node("Slice", &[&operands[1], &zero, &one, &one], vec![]);
            let images = b.node("Squeeze", &[&images, &one], vec![]);
            let images = b.node("Cast", &[&images], vec![int("to", data_type::INT64 as usize)]);
            (b.node("Slice", &[&operands[1], &one, &five, &one], vec![]), images)
        }
        false => (operands[1].clone(), b.ints(&vec![0; b.shape(id)[0]])),
    };
    let attributes = vec![
        string("mode", op.mode.name()),
        int("output_height", op.size[0]),
        int("output_width", op.size[1]),
        int("sampling_ratio", op.samples),
        float("spatial_scale", op.scale),
        string("coordinate_transformation_mode", if op.aligned { "half_pixel" } else { "output_half_pixel" }),
    ];
    b.node("RoiAlign", &[&operands[0], &boxes, &images], attributes)
}

pub(super) fn roi_pool(b: &mut OnnxBuilder, id: NodeId, op: &RoiPool, operands: &[String]) -> String {
    let boxes = match b.graph.operand_shapes(id)[1][1] == 5 {
        true => operands[1].clone(),
        false => {
            let rows = b.shape(id)[0];
            let images = b.floats("images", &[rows, 1], vec![0.0; rows]);
            b.node("Concat", &[&images, &operands[1]], vec![int("axis", 1)])
        }
    };
    let attributes = vec![ints("pooled_shape", &op.size), float("spatial_scale", op.scale)];
    b.node("MaxRoiPool", &[&operands[0], &boxes], attributes)
}
