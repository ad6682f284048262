//! The lowering as text before and after, and by the interpreter on both.

use std::collections::HashMap;

use super::super::{Selection, run};
use crate::interpreter;
use crate::ir::{self, Graph};
use crate::ops::Op;
use crate::tensor::Tensor;
use crate::testing::{quantized_graph, random_inputs};

/// Elements that were compared, and those of which the level is one off.
#[derive(Default)]
struct Compared {
    elements: usize,
    off: usize,
}

/// Compares all levels by the names of their nodes. What is off by one in one place is made equal before it is read, so
/// that each step is compared on equal operands.
fn compare(before: &Graph, after: &Graph, inputs: &[Tensor], compared: &mut Compared) {
    let mut levels: HashMap<String, Tensor> = HashMap::new();
    let found = interpreter::run_observed(after, inputs, |id, value| {
        if let Some(name) = &after.node(id).name {
            levels.insert(name.clone(), value.clone());
        }
    });
    let expected = interpreter::run_altered(before, inputs, |id, value| {
        let name = before.node(id).name.as_ref().filter(|_| matches!(before.node(id).op(), Some(Op::Quantize(_))));
        let Some(lowered) = name.and_then(|name| levels.get(name)) else { return };
        assert_eq!(lowered.shape(), value.shape());
        for (a, b) in lowered.values().zip(value.values()) {
            assert!((a - b).abs() <= 1.0, "{} instead of {b}\n{before}\n{after}", a);
            compared.elements += 1;
            compared.off += usize::from(a != b);
        }
        *value = lowered.clone();
    });
    for (a, b) in found.unwrap().iter().zip(&expected.unwrap()) {
        let (worst, scale) = a.difference(b);
        assert!(worst <= 1e-5 * scale.max(1e-3), "{worst} of {scale}\n{before}\n{after}");
    }
}

/// Before, after and remarks.
fn check(input: &str, lines: &str) -> String {
    let lines: String = lines.lines().map(|l| format!("  {}\n", l.trim())).collect();
    let text = format!("graph @g phase=infer seed=3 {{\n  %x = input : {input}\n{lines}}}\n");
    let mut graph = ir::parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    ir::verify(&graph).unwrap();
    if let Some(zeros) = graph.weights.find("d.zero_point").filter(|&id| graph.weights.get(id).shape.rank() > 0) {
        let count = graph.weights.get(zeros).shape.elements();
        graph.weights.set(zeros, std::sync::Arc::new((0..count).map(|c| 104.0 + 10.0 * c as f32).collect::<Vec<_>>()));
    }
    let before = graph.clone();
    let remarks = run(&mut graph, &Selection::only(["lower_quantized", "fold_whole_weights"]).unwrap());
    let mut compared = Compared::default();
    (0..4).for_each(|seed| compare(&before, &graph, &random_inputs(&before, seed), &mut compared));
    // Scales that are round numbers meet halfway more often than others.
    assert!(compared.off * 200 <= compared.elements, "{} of {}", compared.off, compared.elements);
    let remarks: Vec<String> = remarks.iter().map(|r| format!("{}: {r}\n", r.pass)).collect();
    format!("{before}\n{graph}\n{}", remarks.concat())
}

macro_rules! lowering {
    ($name:ident, $input:literal, $lines:literal) => {
        #[test]
        fn $name() {
            insta::assert_snapshot!(check($input, $lines));
        }
    };
}

lowering!(
    convolutions,
    "f32[1,3,8,8]",
    "%q = quantize %x, @q.scale, @q.zero_point { scale=0.03 zero_point=115 } : u8[1,3,8,8]
     %d = dequantize %q, @q.scale, @q.zero_point : f32[1,3,8,8]
     %c = conv2d_w8 %d, @c.weight, @c.weight_scale, @c.bias { channels=8 kernel=3x3 pad=1,1,1,1 } : f32[1,8,8,8]   // g.net:4
     %r = activation %c { kind=relu } : f32[1,8,8,8]   // g.net:5
     %p = quantize %r, @p.scale, @p.zero_point { scale=0.02 } : u8[1,8,8,8]
     %e = dequantize %p, @p.scale, @p.zero_point : f32[1,8,8,8]
     %f = conv2d_w8 %e, @d.weight, @d.scale { channels=4 kernel=1x1 bias=false } : f32[1,4,8,8]   // g.net:8
     %b = batch_norm %f, @b.weight, @b.bias, @b.running_mean, @b.running_var : f32[1,4,8,8]   // g.net:9
     %six = activation %b { kind=clip(0.0,6.0) } : f32[1,4,8,8]
     %z = quantize %six, @z.scale, @z.zero_point { scale=0.05 } : u8[1,4,8,8]
     %y = dequantize %z, @z.scale, @z.zero_point : f32[1,4,8,8]
     output y = %y"
);

lowering!(
    residuals,
    "f32[1,4,6,6]",
    "%q = quantize %x, @q.scale { levels=i8 symmetric=true scale=0.03 } : i8[1,4,6,6]
     %d = dequantize %q, @q.scale { symmetric=true } : f32[1,4,6,6]
     %a = conv2d_w8 %d, @a.weight, @a.weight_scale, @a.bias { channels=4 kernel=3x3 pad=1,1,1,1 } : f32[1,4,6,6]   // g.net:4
     %s = binary %a, %d { kind=add } : f32[1,4,6,6]   // g.net:5
     %r = activation %s { kind=relu } : f32[1,4,6,6]   // g.net:6
     %p = quantize %r, @p.scale { levels=i8 symmetric=true scale=0.05 } : i8[1,4,6,6]
     %e = dequantize %p, @p.scale { symmetric=true } : f32[1,4,6,6]
     %b = conv2d_w8 %e, @a.weight, @a.weight_scale, @b.bias { channels=4 kernel=3x3 pad=1,1,1,1 } : f32[1,4,6,6]   // g.net:8
     %c = conv2d_w8 %d, @a.weight, @a.weight_scale, @c.bias { channels=4 kernel=3x3 pad=1,1,1,1 } : f32[1,4,6,6]   // g.net:9
     %t = binary %c, %b { kind=add } : f32[1,4,6,6]   // g.net:10
     %u = quantize %t, @u.scale, @u.zero_point { scale=0.08 zero_point=127 } : u8[1,4,6,6]
     %f = dequantize %u, @u.scale, @u.zero_point : f32[1,4,6,6]
     %v = binary %f, %e { kind=add } : f32[1,4,6,6]   // g.net:12
     %o = activation %v { kind=leaky_relu(0.1) } : f32[1,4,6,6]   // g.net:13
     %z = quantize %o, @z.scale, @z.zero_point { scale=0.08 zero_point=20 } : u8[1,4,6,6]
     %y = dequantize %z, @z.scale, @z.zero_point : f32[1,4,6,6]
     output y = %y"
);

// Weights of 9 bits are multiplied by levels; by other numbers as f32.
lowering!(
    weights_with_a_sign_beside_eight_bits,
    "f32[1,3,6,6]",
    "%q = quantize %x, @q.scale, @q.zero_point { scale=0.03 zero_point=115 } : u8[1,3,6,6]
     %d = dequantize %q, @q.scale, @q.zero_point : f32[1,3,6,6]
     %c = conv2d_w8 %d, @c.weight, @c.weight_scale, @c.bias { channels=4 kernel=3x3 bits=9 } : f32[1,4,4,4]   // g.net:4
     %p = quantize %c, @p.scale, @p.zero_point { scale=0.02 zero_point=100 } : u8[1,4,4,4]
     %e = dequantize %p, @p.scale, @p.zero_point : f32[1,4,4,4]
     %t = conv_transpose2d_w8 %e, @t.weight, @t.weight_scale, @t.bias { channels=2 kernel=2x2 stride=2x2 bits=9 } : f32[1,2,8,8]   // g.net:6
     %r = quantize %t, @r.scale, @r.zero_point { scale=0.02 zero_point=100 } : u8[1,2,8,8]
     %f = dequantize %r, @r.scale, @r.zero_point : f32[1,2,8,8]
     %flat = flatten %f : f32[1,128]
     %l = linear_w8 %flat, @l.weight, @l.weight_scale, @l.bias { features=5 bits=9 } : f32[1,5]   // g.net:8
     %m = linear_w8 %l, @m.weight, @m.weight_scale { features=3 bias=false bits=9 } : f32[1,3]   // g.net:9
     output y = %m"
);

lowering!(
    movement,
    "f32[1,4,8,8]",
    "%q = quantize %x, @q.scale, @q.zero_point { scale=0.03 zero_point=115 } : u8[1,4,8,8]
     %d = dequantize %q, @q.scale, @q.zero_point : f32[1,4,8,8]
     %m = max_pool %d { kernel=2x2 stride=2x2 } : f32[1,4,4,4]   // g.net:4
     %mq = quantize %m, @q.scale, @q.zero_point : u8[1,4,4,4]
     %md = dequantize %mq, @q.scale, @q.zero_point : f32[1,4,4,4]
     %b = pad %md { pads=0,0,1,1 } : f32[1,4,5,5]   // g.net:5
     %u = max_pool %b { kernel=2x2 stride=1x1 } : f32[1,4,4,4]   // g.net:6
     %j = concat %u, %md { axis=1 } : f32[1,8,4,4]   // g.net:7
     %c = conv2d_w8 %j, @c.weight, @c.weight_scale { channels=4 kernel=1x1 bias=false } : f32[1,4,4,4]   // g.net:8
     %cp = max_pool %c { kernel=2x2 stride=2x2 } : f32[1,4,2,2]   // g.net:9
     %p = quantize %cp, @p.scale, @p.zero_point { scale=0.02 zero_point=3 } : u8[1,4,2,2]
     %e = dequantize %p, @p.scale, @p.zero_point : f32[1,4,2,2]
     %h = max_pool %md { kernel=2x2 stride=2x2 } : f32[1,4,2,2]   // g.net:11
     %n = concat %e, %h { axis=1 } : f32[1,8,2,2]   // g.net:12
     %f = conv2d_w8 %n, @c.weight, @c.weight_scale { channels=4 kernel=1x1 bias=false } : f32[1,4,2,2]   // g.net:13
     %o = concat %f, %e { axis=1 } : f32[1,8,2,2]   // g.net:14
     %oq = quantize %o, @p.scale, @p.zero_point : u8[1,8,2,2]
     %y = dequantize %oq, @p.scale, @p.zero_point : f32[1,8,2,2]
     output y = %y"
);

lowering!(
    classifiers,
    "f32[2,6,5,5]",
    "%q = quantize %x, @q.scale, @q.zero_point { scale=0.03 zero_point=115 } : u8[2,6,5,5]
     %d = dequantize %q, @q.scale, @q.zero_point : f32[2,6,5,5]
     %m = global_pool %d { kind=avg } : f32[2,6,1,1]   // g.net:4
     %f = flatten %m : f32[2,6]   // g.net:5
     %fq = quantize %f, @f.scale, @f.zero_point { scale=0.01 zero_point=100 } : u8[2,6]
     %fd = dequantize %fq, @f.scale, @f.zero_point : f32[2,6]
     %l = linear_w8 %fd, @fc.weight, @fc.weight_scale, @fc.bias { features=10 } : f32[2,10]   // g.net:7
     %r = activation %l { kind=relu } : f32[2,10]   // g.net:8
     %s = softmax %r { axis=1 } : f32[2,10]
     output y = %s"
);

// Functions of levels, means of windows, a gate, parts of a concat on grids of their own.
lowering!(
    between_layers,
    "f32[1,4,6,6]",
    "%q = quantize %x, @q.scale, @q.zero_point { scale=0.03 zero_point=115 } : u8[1,4,6,6]
     %d = dequantize %q, @q.scale, @q.zero_point : f32[1,4,6,6]
     %s = activation %d { kind=silu } : f32[1,4,6,6]   // g.net:4
     %sq = quantize %s, @s.scale, @s.zero_point { scale=0.02 zero_point=14 } : u8[1,4,6,6]
     %sd = dequantize %sq, @s.scale, @s.zero_point : f32[1,4,6,6]
     %w = avg_pool %sd { kernel=3x3 stride=1x1 pad=1,1,1,1 } : f32[1,4,6,6]   // g.net:6
     %wq = quantize %w, @w.scale { levels=i8 symmetric=true scale=0.02 } : i8[1,4,6,6]
     %wd = dequantize %wq, @w.scale { symmetric=true } : f32[1,4,6,6]
     %m = global_pool %d { kind=avg } : f32[1,4,1,1]   // g.net:8
     %mq = quantize %m, @m.scale, @m.zero_point { scale=0.0113 zero_point=120 } : u8[1,4,1,1]
     %md = dequantize %mq, @m.scale, @m.zero_point : f32[1,4,1,1]
     %g = activation %md { kind=sigmoid } : f32[1,4,1,1]   // g.net:10
     %gq = quantize %g, @g.scale { symmetric=true scale=0.0039 } : u8[1,4,1,1]
     %gd = dequantize %gq, @g.scale { symmetric=true } : f32[1,4,1,1]
     %p = binary %wd, %gd { kind=mul } : f32[1,4,6,6]   // g.net:12
     %pq = quantize %p, @p.scale { levels=i8 symmetric=true scale=0.02 } : i8[1,4,6,6]
     %pd = dequantize %pq, @p.scale { symmetric=true } : f32[1,4,6,6]
     %a = adaptive_avg_pool %pd { output=4x5 } : f32[1,4,4,5]   // g.net:14
     %b = adaptive_avg_pool %d { output=4x5 } : f32[1,4,4,5]   // g.net:15
     %aq = quantize %a, @a.scale { levels=i8 symmetric=true scale=0.0173 } : i8[1,4,4,5]
     %ad = dequantize %aq, @a.scale { symmetric=true } : f32[1,4,4,5]
     %bq = quantize %b, @b.scale, @b.zero_point { scale=0.0163 zero_point=100 } : u8[1,4,4,5]
     %bd = dequantize %bq, @b.scale, @b.zero_point : f32[1,4,4,5]
     %j = concat %ad, %bd { axis=1 } : f32[1,8,4,5]   // g.net:18
     %jq = quantize %j, @j.scale, @j.zero_point { scale=0.02 zero_point=128 } : u8[1,8,4,5]
     %jd = dequantize %jq, @j.scale, @j.zero_point : f32[1,8,4,5]
     %t = conv_transpose2d_w8 %jd, @t.weight, @t.weight_scale, @t.bias { channels=3 kernel=4x4 stride=2x2 pad=1,1,1,1 } : f32[1,3,8,10]   // g.net:20
     %r = activation %t { kind=relu } : f32[1,3,8,10]   // g.net:21
     %z = quantize %r, @z.scale { symmetric=true scale=0.05 } : u8[1,3,8,10]
     %y = dequantize %z, @z.scale { symmetric=true } : f32[1,3,8,10]
     output y = %y"
);

// Pixels, whose channels have zero points of their own.
lowering!(
    pixels,
    "u8[1,3,6,6]",
    "%d = dequantize %x, @d.scale, @d.zero_point { axis=1 scale=0.02 zero_point=110 } : f32[1,3,6,6]   // g.net:3
     %c = conv2d_w8 %d, @c.weight, @c.weight_scale, @c.bias { channels=5 kernel=3x3 pad=1,1,1,1 } : f32[1,5,6,6]   // g.net:4
     %z = quantize %c, @z.scale, @z.zero_point { scale=0.05 zero_point=128 } : u8[1,5,6,6]
     %y = dequantize %z, @z.scale, @z.zero_point : f32[1,5,6,6]
     output y = %y"
);

// Batch norms that no layer takes in: of f32, of levels, and one whose function is more than a change of scale.
lowering!(
    affine_maps,
    "f32[1,4,6,6]",
    "%n = batch_norm %x, @n.weight, @n.bias, @n.running_mean, @n.running_var : f32[1,4,6,6]   // g.net:4
     %r = activation %n { kind=relu } : f32[1,4,6,6]   // g.net:5
     %q = quantize %r, @q.scale { levels=i8 symmetric=true scale=0.02 } : i8[1,4,6,6]
     %d = dequantize %q, @q.scale { symmetric=true } : f32[1,4,6,6]
     %m = max_pool %d { kernel=2x2 stride=2x2 } : f32[1,4,3,3]   // g.net:7
     %s = channel_affine %m, @s.weight, @s.bias : f32[1,4,3,3]   // g.net:8
     %o = activation %s { kind=relu } : f32[1,4,3,3]   // g.net:9
     %p = quantize %o, @p.scale, @p.zero_point { scale=0.03 zero_point=3 } : u8[1,4,3,3]
     %e = dequantize %p, @p.scale, @p.zero_point : f32[1,4,3,3]
     %t = channel_affine %x, @t.weight, @t.bias : f32[1,4,6,6]   // g.net:12
     %six = activation %t { kind=clip(0.0,1.0) } : f32[1,4,6,6]   // g.net:13
     %u = quantize %six, @u.scale { scale=0.01 symmetric=true } : u8[1,4,6,6]
     %f = dequantize %u, @u.scale { symmetric=true } : f32[1,4,6,6]
     output y = %e
     output z = %f"
);

// No grid before the layer, one of 16 bits, one grid read on another.
lowering!(
    what_stays,
    "f32[1,4,4,4]",
    "%c = conv2d_w8 %x, @c.weight, @c.weight_scale, @c.bias { channels=4 kernel=1x1 } : f32[1,4,4,4]   // g.net:4
     %q = quantize %c, @q.scale, @q.zero_point { scale=0.03 zero_point=115 } : u8[1,4,4,4]
     %d = dequantize %q, @q.scale, @q.zero_point : f32[1,4,4,4]
     %fine = quantize %d, @fine.scale { levels=i16 symmetric=true scale=0.001 } : i16[1,4,4,4]
     %fd = dequantize %fine, @fine.scale { symmetric=true } : f32[1,4,4,4]
     %b = conv2d_w8 %fd, @b.weight, @b.weight_scale, @b.bias { channels=4 kernel=1x1 } : f32[1,4,4,4]   // g.net:6
     %p = quantize %d, @p.scale, @p.zero_point { scale=0.05 zero_point=115 } : u8[1,4,4,4]
     %e = dequantize %p, @p.scale, @p.zero_point : f32[1,4,4,4]
     %m = global_pool %e { kind=max } : f32[1,4,1,1]
     output b = %b
     output m = %m"
);

/// What has no form for levels of 16 bits without a sign moves numbers.
#[test]
fn levels_of_16_bits_without_a_sign_are_not_moved_by_all() {
    let q = "fake_quantize %x, @q.scale, @q.zero_point { levels=u16 scale=0.001 zero_point=30000 }";
    let p = "fake_quantize %m, @q.scale, @q.zero_point { levels=u16 scale=0.001 zero_point=30000 }";
    let text = format!(
        "graph @g phase=infer seed=3 {{\n  %x = input : f32[1,4,8,8]\n  %q = {q} : f32[1,4,8,8]\n  \
         %m = max_pool %q {{ kernel=2x2 stride=2x2 }} : f32[1,4,4,4]\n  %p = {p} : f32[1,4,4,4]\n  output y = %p\n}}\n"
    );
    let mut graph = ir::parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let inputs = random_inputs(&graph, 1);
    let expected = interpreter::run(&graph, &inputs);
    run(&mut graph, &Selection::default());
    assert_eq!(interpreter::run(&graph, &inputs), expected, "{graph}");
}

/// As many channels of the largest products as 32 bits do not hold.
#[test]
fn sums_that_could_leave_32_bits_stay_real() {
    let text = |channels: usize| {
        format!(
            "graph @g phase=infer {{
  %x = input : u8[1,{channels}]
  %d = dequantize %x, @q.scale {{ symmetric=true }} : f32[1,{channels}]
  %y = linear_w8 %d, @fc.weight, @fc.weight_scale {{ features=1 bias=false }} : f32[1,1]
  output y = %y
}}
"
        )
    };
    let lowered = |channels: usize| {
        let mut graph = ir::parse(&text(channels)).unwrap();
        let weight = graph.weights.find("fc.weight").unwrap();
        graph.weights.set(weight, std::sync::Arc::new(vec![-127.0; channels]));
        let remarks = run(&mut graph, &Selection::only(["lower_quantized"]).unwrap());
        (graph.to_string().contains("quantized_linear"), remarks[0].to_string())
    };
    let most = (1usize << 31).div_ceil(255 * 127) - 1;
    assert_eq!(lowered(most), (true, "y computes in 8 bits".into()));
    let refused = "y has weights of 8 bits and computes in f32: a sum of its products could leave 32 bits";
    assert_eq!(lowered(most + 1), (false, refused.into()));
}

/// A random network after the first step, which changes nothing, with a name at all levels.
fn split(seed: u64) -> Graph {
    let written = quantized_graph(seed);
    ir::verify(&written).unwrap_or_else(|e| panic!("seed {seed}: {e:?}\n{written}"));
    let mut graph = written.clone();
    let mut editor = ir::Editor::new(&mut graph, "split");
    super::split::run(&mut editor);
    editor.finish();
    let inputs = random_inputs(&written, seed);
    assert_eq!(interpreter::run(&graph, &inputs), interpreter::run(&written, &inputs));
    for (i, id) in graph.order().into_iter().enumerate() {
        if matches!(graph.node(id).op(), Some(Op::Quantize(_))) {
            graph.set_name(id, Some(format!("levels{i}")));
        }
    }
    graph
}

/// Of random networks all levels are those of the graph as written, but for one in a thousand, which is one off.
#[test]
fn random_networks_are_within_a_level() {
    let (mut compared, mut lowered) = (Compared::default(), 0);
    for seed in 0..120 {
        let before = split(seed);
        let mut after = before.clone();
        run(&mut after, &Selection::only(["lower_quantized", "fold_whole_weights"]).unwrap());
        let is_lowered = |op: &Op| op.name().starts_with("quantized_");
        lowered += after.order().into_iter().filter(|&id| after.node(id).op().is_some_and(is_lowered)).count();
        compare(&before, &after, &random_inputs(&before, seed), &mut compared);
    }
    assert!(lowered > 200 && compared.elements > 100_000, "{lowered} {}", compared.elements);
    assert!(compared.off * 1000 <= compared.elements, "{} of {}", compared.off, compared.elements);
}

/// The whole pipeline takes quantized networks.
#[test]
fn pipelines_keep_random_networks() {
    for seed in 0..40 {
        let before = split(seed);
        let mut after = before.clone();
        run(&mut after, &Selection::default());
        compare(&before, &after, &random_inputs(&before, 1), &mut Compared::default());
        let is_left =
            |op: &Op| matches!(op, Op::FakeQuantize(_) | Op::Conv2dW8(_) | Op::ConvTranspose2dW8(_) | Op::LinearW8(_));
        assert!(!after.order().into_iter().any(|id| after.node(id).op().is_some_and(is_left)), "{after}");
    }
}
