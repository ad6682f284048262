//! Models built by hand, imported, as IR text.

use std::path::Path;

use prost::Message;

use super::proto::{self, attribute_type, data_type};
use super::{ImportError, ModelFile, Options, import_file};
use crate::tensor::{Element, Tensor};
use crate::{interpreter, ir};

/// `Conv x w b -> y : name` with attributes.
fn node(text: &str, attributes: Vec<proto::Attribute>) -> proto::Node {
    let (text, name) = text.split_once(':').map_or((text, ""), |(t, n)| (t, n.trim()));
    let (call, outputs) = text.split_once("->").unwrap();
    let mut words = call.split_whitespace();
    // `_` is an input that is left out.
    let list = |words: std::str::SplitWhitespace| words.map(|w| if w == "_" { "" } else { w }.to_string()).collect();
    proto::Node {
        op_type: words.next().unwrap().into(),
        input: list(words),
        output: list(outputs.split_whitespace()),
        name: name.into(),
        attribute: attributes,
        ..Default::default()
    }
}

fn int(name: &str, value: i64) -> proto::Attribute {
    proto::Attribute { name: name.into(), i: Some(value), ty: attribute_type::INT, ..Default::default() }
}

fn ints(name: &str, values: &[i64]) -> proto::Attribute {
    proto::Attribute { name: name.into(), ints: values.to_vec(), ty: attribute_type::INTS, ..Default::default() }
}

fn text_attribute(name: &str, value: &str) -> proto::Attribute {
    proto::Attribute {
        name: name.into(),
        s: Some(value.as_bytes().to_vec().into()),
        ty: attribute_type::STRING,
        ..Default::default()
    }
}

fn floats(name: &str, dims: &[i64]) -> proto::Tensor {
    let count = dims.iter().product::<i64>();
    let float_data = (0..count).map(|i| i as f32).collect();
    proto::Tensor {
        name: name.into(),
        dims: dims.to_vec(),
        data_type: data_type::FLOAT,
        float_data,
        ..Default::default()
    }
}

fn number(name: &str, value: f32) -> proto::Tensor {
    proto::Tensor { float_data: vec![value], ..floats(name, &[]) }
}

fn longs(name: &str, values: &[i64]) -> proto::Tensor {
    let dims = vec![values.len() as i64];
    proto::Tensor {
        name: name.into(),
        dims,
        data_type: data_type::INT64,
        int64_data: values.to_vec(),
        ..Default::default()
    }
}

fn value(name: &str, dims: &[i64]) -> proto::ValueInfo {
    let dim = |&d: &i64| match d {
        0 => proto::Dimension { dim_value: None, dim_param: Some("batch".into()) },
        d => proto::Dimension { dim_value: Some(d), dim_param: None },
    };
    let shape = proto::Shape { dim: dims.iter().map(dim).collect() };
    let tensor_type = Some(proto::TensorType { elem_type: data_type::FLOAT, shape: Some(shape) });
    proto::ValueInfo { name: name.into(), ty: Some(proto::Type { tensor_type }) }
}

fn model(input: &[i64], nodes: Vec<proto::Node>, initializer: Vec<proto::Tensor>, output: &str) -> proto::Model {
    let graph = proto::Graph {
        node: nodes,
        name: "g".into(),
        initializer,
        input: vec![value("x", input)],
        output: vec![value(output, &[])],
        ..Default::default()
    };
    let opset_import = vec![proto::OperatorSet { domain: String::new(), version: 17 }];
    proto::Model { ir_version: 8, graph: Some(graph), opset_import, ..Default::default() }
}

fn import(model: &proto::Model) -> Result<ir::Graph, ImportError> {
    let file = ModelFile::from_bytes(Path::new("model.onnx"), model.encode_to_vec())?;
    import_file(&file, &Options::default())
}

fn text(model: &proto::Model) -> String {
    let graph = import(model).unwrap_or_else(|e| panic!("{e}"));
    ir::verify(&graph).unwrap();
    graph.to_string()
}

fn message(model: &proto::Model) -> String {
    import(model).unwrap_err().to_string()
}

#[test]
fn weights_name_layers_and_constants_fold_into_them() {
    let nodes = vec![
        node("Conv x conv1.weight -> a : /conv1/Conv", vec![ints("pads", &[1, 1, 1, 1])]),
        node("Add a shift -> b", vec![]),
        node("Sigmoid b -> s", vec![]),
        node("Mul b s -> c", vec![]),
        node("Shape c -> shape", vec![]),
        node("Gather shape zero -> n", vec![int("axis", 0)]),
        node("Unsqueeze n axes -> n1", vec![]),
        node("Concat n1 rest -> target", vec![int("axis", 0)]),
        node("Reshape c target -> f", vec![]),
        node("Gemm f fc.weight fc.bias -> y", vec![int("transB", 1)]),
    ];
    let zero = number_of("zero", 0);
    let known = vec![
        floats("conv1.weight", &[4, 3, 3, 3]),
        floats("shift", &[4, 1, 1]),
        zero,
        longs("axes", &[0]),
        longs("rest", &[-1]),
        floats("fc.weight", &[2, 100]),
        floats("fc.bias", &[2]),
    ];
    insta::assert_snapshot!(text(&model(&[0, 3, 5, 5], nodes, known, "y")));
}

#[test]
fn transpositions_around_a_network_in_nhwc_vanish() {
    let nodes = vec![
        node("Transpose x -> a", vec![ints("perm", &[0, 3, 1, 2])]),
        node("Conv a w -> b : conv", vec![]),
        node("Transpose b -> c", vec![ints("perm", &[0, 2, 3, 1])]),
        node("Relu c -> d", vec![]),
        node("Mul d scale -> e : scale", vec![]),
        node("Add e d -> s", vec![]),
        node("Concat s d -> f", vec![int("axis", -1)]),
        node("ReduceMean f -> g", vec![ints("axes", &[1, 2]), int("keepdims", 0)]),
        node("Gemm g fc -> y : fc", vec![]),
    ];
    let known = vec![floats("w", &[4, 3, 1, 1]), floats("scale", &[4]), floats("fc", &[8, 2])];
    insta::assert_snapshot!(text(&model(&[1, 6, 6, 3], nodes, known, "y")));
}

/// What newer operator sets take as inputs, older ones state as attributes.
#[test]
fn older_operator_sets() {
    let real = |name: &str, value: f32| proto::Attribute {
        name: name.into(),
        f: Some(value),
        ty: attribute_type::FLOAT,
        ..Default::default()
    };
    let reals = |name: &str, values: &[f32]| proto::Attribute {
        name: name.into(),
        floats: values.to_vec(),
        ty: attribute_type::FLOATS,
        ..Default::default()
    };
    let nodes = vec![
        node("BatchNormalization x scale bias mean variance -> a", vec![int("is_test", 1), int("spatial", 1)]),
        node("Clip a -> b", vec![real("min", -1.0), real("max", 1.0)]),
        node("Add b shift -> c", vec![int("broadcast", 1), int("axis", 1)]),
        node("Pad c -> d", vec![ints("pads", &[0, 0, 1, 1, 0, 0, 1, 1]), text_attribute("mode", "edge")]),
        node("Slice d -> e", vec![ints("starts", &[1]), ints("ends", &[9]), ints("axes", &[2])]),
        node("Upsample e -> f", vec![reals("scales", &[1.0, 1.0, 2.0, 2.0]), text_attribute("mode", "nearest")]),
        node("Split f -> g h", vec![int("axis", 1), ints("split", &[1, 3])]),
        // Nobody reads the mask.
        node("Dropout h -> i mask", vec![real("ratio", 0.5), int("is_test", 1)]),
        node("ReduceSum i -> j", vec![ints("axes", &[2, 3]), int("keepdims", 1)]),
        node("Squeeze j -> k", vec![ints("axes", &[2, 3])]),
        node("Unsqueeze k -> l", vec![ints("axes", &[2])]),
        node("Softmax l -> m", vec![]),
        node("PRelu h slope -> n", vec![]),
        node("Sum n i -> o", vec![]),
        node("GlobalMaxPool o -> p", vec![]),
        node("Flatten p -> q", vec![]),
        node("Gemm q fc.w fc.b -> r", vec![int("broadcast", 1)]),
        node("Reshape m flat -> s", vec![]),
        node("Concat r s -> y", vec![int("axis", 1)]),
    ];
    let four = ["scale", "bias", "mean", "variance", "shift"].map(|name| floats(name, &[4]));
    let mut known = four.to_vec();
    known.extend([floats("slope", &[3]), floats("fc.w", &[3, 2]), floats("fc.b", &[2]), longs("flat", &[0, -1])]);
    let mut old = model(&[2, 4, 3, 3], nodes, known, "y");
    old.opset_import[0].version = 6;
    insta::assert_snapshot!(text(&old));
    old.graph.as_mut().unwrap().output[0].name = "mask".into();
    assert!(message(&old).contains("Dropout: its mask is not given out"));
}

/// Forms that operators had before operator set 6.
#[test]
fn the_first_operator_sets() {
    let real = |name: &str, value: f32| proto::Attribute {
        name: name.into(),
        f: Some(value),
        ty: attribute_type::FLOAT,
        ..Default::default()
    };
    let nodes = vec![
        node("BatchNormalization x s s s s -> a", vec![int("is_test", 1), ints("consumed_inputs", &[0, 0, 0, 1, 1])]),
        node("Cast a -> b", vec![text_attribute("to", "FLOAT")]),
        node("Pad b -> c", vec![ints("paddings", &[0, 0, 1, 1, 0, 0, 1, 1]), text_attribute("mode", "constant")]),
        node("Upsample c -> d", vec![real("height_scale", 2.0), real("width_scale", 2.0)]),
        node("Tile d count axis -> e", vec![]),
        node("Split e parts -> f g", vec![int("axis", 1)]),
        node("Add f g -> h", vec![]),
        node("Selu h -> i", vec![ints("consumed_inputs", &[0])]),
        node("Mul i s -> j", vec![int("broadcast", 1), int("axis", 1), ints("consumed_inputs", &[0, 0])]),
        node("Reshape j -> k", vec![ints("shape", &[0, -1]), ints("consumed_inputs", &[0])]),
        node(
            "ImageScaler x -> l",
            vec![
                real("scale", 0.5),
                proto::Attribute {
                    name: "bias".into(),
                    floats: vec![1.0, 2.0],
                    ty: attribute_type::FLOATS,
                    ..Default::default()
                },
            ],
        ),
        node("Flatten l -> m", vec![]),
        node("Concat k m -> y", vec![]),
    ];
    let known = vec![floats("s", &[2]), number("count", 2.0), number("axis", 1.0), floats("parts", &[2])];
    let mut old = model(&[1, 2, 2, 2], nodes, known, "y");
    old.graph.as_mut().unwrap().initializer[3].float_data = vec![2.0, 2.0];
    old.opset_import[0].version = 1;
    insta::assert_snapshot!(text(&old));
}

/// Readers may stand before what they read, but nothing waits for itself.
#[test]
fn nodes_in_any_order() {
    let nodes = |last: &str| {
        vec![node("Add a b -> y : third", vec![]), node(last, vec![]), node("Relu x -> a : first", vec![])]
    };
    insta::assert_snapshot!(text(&model(&[1, 3], nodes("Neg a -> b : second"), vec![], "y")));
    insta::assert_snapshot!(message(&model(&[1, 3], nodes("Neg y -> b : second"), vec![], "y")));
    insta::assert_snapshot!(message(&model(&[1, 3], nodes("Neg nothing -> b : second"), vec![], "y")));
}

#[test]
fn loops_of_known_length_are_written_out() {
    let body = |condition: &str| proto::Graph {
        node: vec![
            node("Mul v half -> w", vec![]),
            node("Identity w -> seen", vec![]),
            node("Less i most -> small", vec![]),
            node(&format!("Identity {condition} -> on"), vec![]),
        ],
        input: vec![value("i", &[]), value("going", &[]), value("v", &[1, 3])],
        output: vec![value("on", &[]), value("w", &[1, 3]), value("seen", &[1, 3])],
        initializer: vec![number("half", 0.5), proto::Tensor { dims: vec![], ..longs("most", &[1]) }],
        ..Default::default()
    };
    let looped = |condition: &str, turns: i64| {
        let attribute =
            proto::Attribute { name: "body".into(), g: Some(Box::new(body(condition))), ..Default::default() };
        let nodes = vec![node("Loop turns _ x -> y all", vec![attribute])];
        model(&[1, 3], nodes, vec![proto::Tensor { dims: vec![], ..longs("turns", &[turns]) }], "all")
    };
    insta::assert_snapshot!(text(&looped("going", 3)));
    // Turns 0 and 1: the condition ends it before the third.
    insta::assert_snapshot!(text(&looped("small", 9)));
    insta::assert_snapshot!([message(&looped("going", 1000)), message(&looped("w", 9))].join("\n"));
}

#[test]
fn sums_over_named_axes() {
    let sum = |equation: &str, dims: &[i64]| {
        let nodes = vec![node("Einsum x w -> y", vec![text_attribute("equation", equation)])];
        model(&[2, 3, 4, 5], nodes, vec![floats("w", dims)], "y")
    };
    insta::assert_snapshot!(text(&sum("bchw,dc->bdhw", &[6, 3])));
    insta::assert_snapshot!(text(&sum("bchw,bdhw->bcd", &[2, 6, 4, 5])));
    let odd = [("bchw,dc", &[6, 4][..]), ("bchw->b", &[2]), ("bc,dc->bd", &[6, 3]), ("bchw,dc->bx", &[6, 3])];
    insta::assert_snapshot!(odd.map(|(equation, dims)| message(&sum(equation, dims))).join("\n"));
}

/// What a recurrent layer does not have in netc, with the node's name.
#[test]
fn recurrent_layers_are_refused_by_what_they_lack() {
    let lstm = |attributes: Vec<proto::Attribute>, extra: &str| {
        let attributes = [vec![int("hidden_size", 2)], attributes].concat();
        let nodes = vec![node(&format!("LSTM x w r {extra} -> y : /text/LSTM"), attributes)];
        let known =
            vec![floats("w", &[1, 8, 3]), floats("r", &[1, 8, 2]), longs("lengths", &[4, 2]), floats("p", &[1, 6])];
        model(&[4, 2, 3], nodes, known, "y")
    };
    let strings = |values: &[&str]| proto::Attribute {
        name: "activations".into(),
        strings: values.iter().map(|v| v.as_bytes().to_vec().into()).collect(),
        ty: attribute_type::STRINGS,
        ..Default::default()
    };
    let clip = proto::Attribute { name: "clip".into(), f: Some(1.0), ty: attribute_type::FLOAT, ..Default::default() };
    let cases = [
        lstm(vec![], "_ lengths"),
        lstm(vec![], "_ _ _ _ p"),
        lstm(vec![clip], ""),
        lstm(vec![strings(&["Relu", "Tanh", "Tanh"])], ""),
        lstm(vec![text_attribute("direction", "bidirectional")], ""),
    ];
    insta::assert_snapshot!(cases.iter().map(message).collect::<Vec<_>>().join("\n"));
}

/// As tf2onnx writes a small Keras network.
#[test]
fn networks_that_keras_trained_are_plain() {
    let nodes = vec![
        node("Transpose x -> t", vec![ints("perm", &[0, 3, 1, 2])]),
        node("Conv t conv/kernel -> c : model/conv/Conv2D", vec![text_attribute("auto_pad", "SAME_UPPER")]),
        node("BatchNormalization c gamma beta mean variance -> n : model/bn/FusedBatchNormV3", vec![]),
        node("Transpose n -> nt", vec![ints("perm", &[0, 2, 3, 1])]),
        node("Clip nt zero six -> r", vec![]),
        node("Pad r pads -> p", vec![]),
        node("Transpose p -> pt", vec![ints("perm", &[0, 3, 1, 2])]),
        node("Conv pt depthwise -> d : model/depthwise/depthwise", vec![int("group", 4), ints("strides", &[2, 2])]),
        node("Transpose d -> dt", vec![ints("perm", &[0, 2, 3, 1])]),
        node("Add dt shift -> s : model/depthwise/BiasAdd", vec![]),
        node("Resize s _ scales -> u", vec![text_attribute("mode", "linear")]),
        node("Reshape u flat -> f", vec![]),
        node("MatMul f dense/kernel -> m : model/dense/MatMul", vec![]),
        node("Add m dense/bias -> b : model/dense/BiasAdd", vec![]),
        node("Softmax b -> y", vec![int("axis", -1)]),
    ];
    let scales = proto::Tensor { float_data: vec![1.0, 2.0, 2.0, 1.0], ..floats("scales", &[4]) };
    let known = vec![
        floats("conv/kernel", &[4, 3, 3, 3]),
        floats("gamma", &[4]),
        floats("beta", &[4]),
        floats("mean", &[4]),
        floats("variance", &[4]),
        number("zero", 0.0),
        number("six", 6.0),
        longs("pads", &[0, 0, 0, 0, 0, 1, 1, 0]),
        floats("depthwise", &[4, 1, 3, 3]),
        floats("shift", &[4]),
        scales,
        longs("flat", &[-1, 144]),
        floats("dense/kernel", &[144, 5]),
        floats("dense/bias", &[5]),
    ];
    let graph = import(&model(&[0, 7, 7, 3], nodes, known, "y")).unwrap();
    let dense = graph.weights.iter().find(|(_, w)| w.name == "dense.weight").unwrap().0;
    // Feature 0, channel 0 at pixels 0 and 1, which lie four rows of five apart in the file.
    assert_eq!(graph.weights.values(dense).as_ref().as_ref()[..2], [0.0, 20.0]);
    insta::assert_snapshot!(graph.to_string());
}

/// Exporters write attributes down that the mode gives no meaning.
#[test]
fn resizes_say_more_than_they_mean() {
    let cubic = proto::Attribute { f: Some(-0.75), i: None, ty: attribute_type::FLOAT, ..int("cubic_coeff_a", 0) };
    let attributes = vec![
        cubic,
        text_attribute("mode", "nearest"),
        text_attribute("nearest_mode", "floor"),
        text_attribute("coordinate_transformation_mode", "asymmetric"),
        int("exclude_outside", 0),
    ];
    let nodes = vec![node("Resize x _ scales -> y : up", attributes)];
    let scales = proto::Tensor { float_data: vec![1.0, 1.0, 2.0, 2.0], ..floats("scales", &[4]) };
    insta::assert_snapshot!(text(&model(&[0, 2, 4, 3], nodes, vec![scales], "y")));
}

/// Weights that the network standardises, and sizes that it counts out with operators on constants
/// that folding does not know by name.
#[test]
fn what_depends_on_constants_is_computed_at_import() {
    let nodes = vec![
        node("Reshape w flat -> w0", vec![]),
        node("BatchNormalization w0 gain zeros zeros ones -> w1", vec![int("training_mode", 1)]),
        node("Reshape w1 whole -> w2", vec![]),
        node("Clip minus zero -> none : clip", vec![]),
        node("Sigmoid number -> half : sigmoid", vec![]),
        node("Concat none none one one none none one one -> pads", vec![int("axis", 0)]),
        node("Pad x pads half -> padded : pad", vec![]),
        node("Conv padded w2 -> y : conv", vec![]),
    ];
    let known = vec![
        floats("w", &[2, 1, 1, 3]),
        longs("flat", &[1, 2, -1]),
        longs("whole", &[2, 1, 1, 3]),
        proto::Tensor { float_data: vec![1.0, 2.0], ..floats("gain", &[2]) },
        proto::Tensor { float_data: vec![0.0, 0.0], ..floats("zeros", &[2]) },
        proto::Tensor { float_data: vec![1.0, 1.0], ..floats("ones", &[2]) },
        longs("minus", &[-3]),
        proto::Tensor { dims: vec![], ..longs("zero", &[0]) },
        longs("one", &[1]),
        number("number", 0.0),
    ];
    let mut graph = import(&model(&[0, 1, 4, 4], nodes, known, "y")).unwrap_or_else(|e| panic!("{e}"));
    let conv = graph.order().into_iter().find(|&n| !graph.parameters(n).is_empty()).unwrap();
    let weight = graph.weights_read(conv)[0];
    // The first row is 0, 1, 2: mean 1, variance 2/3.
    let scale = 1.0 / (2.0f32 / 3.0 + 1e-5).sqrt();
    let found = graph.weights.values(weight);
    let expected = [-scale, 0.0, scale, -2.0 * scale, 0.0, 2.0 * scale];
    for (found, expected) in (*found).as_ref().iter().zip(expected) {
        assert!((found - expected).abs() < 1e-5, "{found} {expected}");
    }
    graph.weights.forget_values(0);
    insta::assert_snapshot!(graph.to_string());
}

/// As Keras writes `ZeroPadding2D` on what enters the network.
#[test]
fn borders_of_images_with_channels_last() {
    let nodes = vec![
        node("Pad x pads -> p : pad", vec![]),
        node("Transpose p -> t", vec![ints("perm", &[0, 3, 1, 2])]),
        node("Conv t w -> y : conv", vec![]),
    ];
    let known = vec![longs("pads", &[0, 1, 2, 0, 0, 1, 3, 0]), floats("w", &[2, 3, 3, 3])];
    insta::assert_snapshot!(text(&model(&[0, 5, 4, 3], nodes, known, "y")));
}

/// Frozen batch norms: the mean taken away, a factor, a term.
#[test]
fn factors_and_terms_of_channels_are_one_layer() {
    let nodes = vec![
        node("Conv x w b -> a : conv", vec![]),
        node("Sub a mean -> c : mean", vec![]),
        node("Mul c gain -> d : gain", vec![]),
        node("Sub d mean -> e : again", vec![]),
        node("Mul e gain -> f : more", vec![]),
        node("Add f shift -> g : shift", vec![]),
        node("Add g f -> y : sum", vec![]),
    ];
    let three = |name: &str, v: [f32; 2]| proto::Tensor { float_data: v.to_vec(), ..floats(name, &[2, 1, 1]) };
    let bias = proto::Tensor { dims: vec![2], ..three("b", [0.5, 1.0]) };
    let known = vec![
        floats("w", &[2, 1, 1, 1]),
        bias,
        three("mean", [1.0, 2.0]),
        three("gain", [3.0, 4.0]),
        three("shift", [7.0, 8.0]),
    ];
    let graph = import(&model(&[0, 1, 2, 2], nodes, known, "y")).unwrap();
    let weights: Vec<Vec<f32>> =
        graph.weights.iter().map(|(id, _)| (*graph.weights.values(id)).as_ref().to_vec()).collect();
    // (c · 3 − 1) · 3 is read twice: what comes behind it stands for itself.
    assert_eq!(
        weights,
        [vec![0.0, 1.0], vec![-0.5, -1.0], vec![9.0, 16.0], vec![-3.0, -8.0], vec![1.0, 1.0], vec![7.0, 8.0]]
    );
    insta::assert_snapshot!(graph.to_string());
}

/// Weights in 8 bits whose zero points leave no 8 bits have 9.
#[test]
fn weights_are_dequantized() {
    let nodes =
        vec![node("DequantizeLinear w scale zero -> v", vec![int("axis", 0)]), node("Conv x v -> y : conv", vec![])];
    let bytes = |name: &str, dims: &[i64], raw: &[u8]| proto::Tensor {
        name: name.into(),
        dims: dims.to_vec(),
        data_type: data_type::INT8,
        raw_data: raw.to_vec().into(),
        ..Default::default()
    };
    let known = vec![
        bytes("w", &[2, 1, 1, 2], &[1, 255, 3, 128]),
        proto::Tensor { float_data: vec![0.5, 2.0], ..floats("scale", &[2]) },
        bytes("zero", &[2], &[0, 1]),
    ];
    let graph = import(&model(&[0, 1, 2, 2], nodes, known, "y")).unwrap_or_else(|e| panic!("{e}"));
    let values = |(id, _)| (*graph.weights.values(id)).as_ref().to_vec();
    let weights: Vec<Vec<f32>> = graph.weights.iter().map(values).collect();
    assert_eq!(weights, [vec![1.0, -1.0, 2.0, -129.0], vec![0.5, 2.0]]);
}

#[test]
fn values_are_expanded_by_what_suits_them() {
    let nodes = vec![
        node("GlobalAveragePool x -> p : pool", vec![]),
        node("Expand p image -> a : spread", vec![]),
        node("ReduceMean x -> m : mean", vec![ints("axes", &[1])]),
        node("Expand m twice -> b : twice", vec![]),
        node("Expand m many -> c : many", vec![]),
        node("Concat a b c -> y : all", vec![int("axis", 1)]),
    ];
    let known = vec![longs("image", &[1, 1, 4, 3]), longs("twice", &[1, 2, 1, 1]), longs("many", &[1, 100, 1, 1])];
    insta::assert_snapshot!(text(&model(&[0, 2, 4, 3], nodes, known, "y")));
}

#[test]
fn sums_of_what_is_known() {
    let sum = |name: &str, attributes| node(&format!("CumSum v axis -> {name}"), attributes);
    let nodes = vec![
        sum("a", vec![]),
        sum("b", vec![int("exclusive", 1)]),
        sum("c", vec![int("reverse", 1)]),
        node("Add a b -> ab", vec![]),
        node("Add ab c -> slopes", vec![]),
        node("PRelu x slopes -> y : slopes", vec![]),
    ];
    let v = proto::Tensor { float_data: vec![1.0, 2.0, 4.0], ..floats("v", &[3, 1, 1]) };
    let graph = import(&model(&[0, 3, 1, 1], nodes, vec![v, longs("axis", &[0])], "y")).unwrap();
    let prelu = graph.order().into_iter().find(|&n| !graph.parameters(n).is_empty()).unwrap();
    let slopes = graph.weights.values(graph.weights_read(prelu)[0]);
    // 1 3 7 + 0 1 3 + 7 6 4
    assert_eq!((*slopes).as_ref(), [8.0, 10.0, 14.0]);
}

#[test]
fn resizes_beyond_upsample_are_products_with_matrices() {
    let sizes = longs("sizes", &[1, 2, 4, 6]);
    let mode = |mode: &str| text_attribute("mode", mode);
    let nodes = vec![
        node("Resize x _ _ sizes -> a : cubic", vec![mode("cubic")]),
        node(
            "Resize a roi _ sizes -> y : crop",
            vec![
                mode("linear"),
                text_attribute("coordinate_transformation_mode", "tf_crop_and_resize"),
                proto::Attribute { f: Some(7.0), i: None, ty: attribute_type::FLOAT, ..int("extrapolation_value", 0) },
            ],
        ),
    ];
    let roi = proto::Tensor { float_data: vec![0.0, 0.0, 0.5, 0.0, 1.0, 1.0, 1.5, 1.0], ..floats("roi", &[8]) };
    insta::assert_snapshot!(text(&model(&[1, 2, 4, 3], nodes, vec![sizes, roi], "y")));
}

#[test]
fn constants_that_make_no_sense_are_refused() {
    let real = |name: &str, f| proto::Attribute { f: Some(f), i: None, ty: attribute_type::FLOAT, ..int(name, 0) };
    let refused = |text: &str, constant| {
        let known = ["w", "b", "mean", "var"].map(|name| floats(name, &[4])).to_vec();
        message(&model(&[1, 4, 3, 5], vec![node(text, vec![constant])], known, "y"))
    };
    let slope = refused("LeakyRelu x -> y : leaky", real("alpha", f32::NAN));
    assert!(slope.contains("NaN is no constant of leaky_relu"), "{slope}");
    let eps = refused("BatchNormalization x w b mean var -> y : bn", real("epsilon", -1.0));
    assert!(eps.contains("eps is a number from 0 on, not -1.0"), "{eps}");
    let eps = refused("InstanceNormalization x w b -> y : norm", real("epsilon", f32::NAN));
    assert!(eps.contains("eps is a number from 0 on, not NaN"), "{eps}");
}

/// What PyTorch wrote means what PyTorch computes; all else the standard, with exact positions.
#[test]
fn resizes_of_pytorch_and_of_others() {
    let resize = |width: i64, producer: &str, to: proto::Tensor, attributes: &[(&str, &str)]| {
        let attributes = attributes.iter().map(|(name, value)| text_attribute(name, value)).collect();
        let by_sizes = to.data_type == data_type::INT64;
        let node = node(if by_sizes { "Resize x _ _ to -> y" } else { "Resize x _ to -> y" }, attributes);
        let model = model(&[1, 1, 1, width], vec![node], vec![to], "y");
        let model = proto::Model { producer_name: producer.into(), ..model };
        text(&model)
            .lines()
            .filter(|l| l.contains(" = ") && !l.contains("input"))
            .map(|l| l.trim().to_string())
            .collect()
    };
    let sizes = |width| longs("to", &[1, 1, 1, width]);
    let scales = |scale| proto::Tensor { float_data: vec![1.0, 1.0, 1.0, scale], ..floats("to", &[4]) };
    let mode = |mode| ("mode", mode);
    let places = |places| ("coordinate_transformation_mode", places);
    let floor = ("nearest_mode", "floor");
    type Attributes<'a> = &'a [(&'a str, &'a str)];
    let cases: [(&str, i64, proto::Tensor, Attributes); 8] = [
        ("the 41st of 82", 2, sizes(82), &[mode("nearest"), places("asymmetric"), floor]),
        ("where all agree", 48, sizes(94), &[mode("nearest"), places("asymmetric"), floor]),
        ("one pixel", 4, sizes(1), &[mode("linear"), places("pytorch_half_pixel")]),
        ("corners of a cut size", 15, scales(0.5), &[mode("linear"), places("align_corners")]),
        ("a length that rounding decides", 100, scales(0.29), &[mode("nearest"), places("asymmetric"), floor]),
        ("a size that stays", 5, scales(1.1), &[mode("linear"), places("half_pixel")]),
        ("a ratio", 15, scales(1.0 / 3.0), &[mode("cubic"), places("half_pixel")]),
        ("a policy that is about sizes", 6, scales(2.0), &[mode("linear"), ("keep_aspect_ratio_policy", "stretch")]),
    ];
    let mut found = String::new();
    for (name, width, to, attributes) in cases {
        found += &format!("{name}\n");
        for producer in ["", "pytorch"] {
            let lines: Vec<String> = resize(width, producer, to.clone(), attributes);
            found += &format!("{producer:>10}: {}\n", lines.join(" / "));
        }
    }
    insta::assert_snapshot!(found);
}

#[test]
fn powers_and_reversed_axes() {
    let nodes = vec![
        node("Pow x five -> a : fifth", vec![]),
        node("Pow a minus_half -> b : inverse_root", vec![]),
        node("Pow b third -> c : cube_root", vec![]),
        node("Erf c -> d : erf", vec![]),
        node("Slice d last first axis back -> y : bgr", vec![]),
    ];
    let known = vec![
        number("five", 5.0),
        number("minus_half", -0.5),
        number("third", 1.0 / 3.0),
        longs("last", &[-1]),
        longs("first", &[-9]),
        longs("axis", &[1]),
        longs("back", &[-1]),
    ];
    insta::assert_snapshot!(text(&model(&[0, 3, 2, 2], nodes, known, "y")));
}

#[test]
fn one_dimensional_layers_are_images_one_pixel_high() {
    let nodes = vec![
        node("Conv x w -> a : conv1", vec![ints("strides", &[2])]),
        node("Relu a -> b", vec![]),
        node("MaxPool b -> c", vec![ints("kernel_shape", &[3])]),
        node("Conv c v -> y : conv2", vec![]),
    ];
    insta::assert_snapshot!(text(&model(
        &[0, 2, 20],
        nodes,
        vec![floats("w", &[4, 2, 3]), floats("v", &[1, 4, 1])],
        "y"
    )));
}

/// The operator is one node over channels, behind transpositions and before them, and arithmetic elsewhere.
#[test]
fn layer_norms_over_channels_and_over_other_axes() {
    let nodes = vec![
        node("Transpose x -> t", vec![ints("perm", &[0, 2, 3, 1])]),
        node("LayerNormalization t n1.weight n1.bias -> a : n1", vec![]),
        node("LayerNormalization a n2.weight -> b : n2", vec![int("axis", 3)]),
        node("LayerNormalization b n3.weight -> c : n3", vec![int("axis", 2)]),
        node("Transpose c -> j", vec![ints("perm", &[0, 3, 1, 2])]),
        node("GlobalAveragePool j -> k", vec![]),
        node("Flatten k -> l", vec![]),
        node("LayerNormalization l n1.weight n1.bias -> y : n6", vec![]),
    ];
    let known = vec![
        floats("n1.weight", &[4]),
        floats("n1.bias", &[4]),
        floats("n2.weight", &[4]),
        floats("n3.weight", &[5, 4]),
    ];
    insta::assert_snapshot!(text(&model(&[0, 4, 3, 5], nodes, known, "y")));
}

/// What a model writes out is read as it stands: passes recognise it.
#[test]
fn gelu_and_hard_swish_written_out() {
    let nodes = vec![
        node("Div x root -> a", vec![]),
        node("Erf a -> b", vec![]),
        node("Add b one -> c", vec![]),
        node("Mul x c -> d", vec![]),
        node("Mul d half -> g", vec![]),
        node("Add g three -> h", vec![]),
        node("Clip h zero six -> i", vec![]),
        node("Div i six -> j", vec![]),
        node("Mul g j -> y", vec![]),
    ];
    let known = [("root", 2f32.sqrt()), ("one", 1.0), ("half", 0.5), ("three", 3.0), ("zero", 0.0), ("six", 6.0)];
    let known = known.map(|(n, v)| number(n, v)).to_vec();
    insta::assert_snapshot!(text(&model(&[0, 4], nodes, known, "y")));
}

#[test]
fn branches_with_known_conditions_and_functions_are_inlined() {
    let branch = |name: &str, op: &str| {
        let g = proto::Graph {
            node: vec![node(&format!("{op} x -> inner"), vec![])],
            output: vec![value("inner", &[])],
            ..Default::default()
        };
        proto::Attribute { name: name.into(), g: Some(Box::new(g)), ..Default::default() }
    };
    let twice = proto::Function {
        name: "Twice".into(),
        domain: "own".into(),
        input: vec!["v".into()],
        output: vec!["w".into()],
        node: vec![
            node("Elu v -> t", vec![proto::Attribute { ref_attr_name: "alpha".into(), ..int("alpha", 0) }]),
            node("Tanh t -> w", vec![]),
        ],
        opset_import: vec![proto::OperatorSet { domain: String::new(), version: 17 }],
        ..Default::default()
    };
    let alpha =
        proto::Attribute { name: "alpha".into(), f: Some(0.5), ty: attribute_type::FLOAT, ..Default::default() };
    let mut call = node("Twice a -> y", vec![alpha]);
    call.domain = "own".into();
    let nodes = vec![node("If yes -> a", vec![branch("then_branch", "Relu"), branch("else_branch", "Abs")]), call];
    let mut model = model(&[0, 3], nodes, vec![number("yes", 1.0)], "y");
    model.functions = vec![twice];
    insta::assert_snapshot!(text(&model));
}

#[test]
fn everything_unsupported_is_listed_at_once() {
    let mut foreign = node("FusedConv a -> f : fused", vec![]);
    foreign.domain = "com.microsoft".into();
    let nodes = vec![
        node("QuantizeLinear x s -> a : q1", vec![]),
        node("DequantizeLinear a s -> b : q2", vec![]),
        node("Relu b -> c : fine", vec![]),
        foreign,
        node("LSTM f -> l : lstm", vec![]),
        node("Frobnicate x -> z", vec![]),
        node("Conv x z -> y : computed", vec![]),
        node("Conv x w -> k : misfit", vec![]),
        node("SpaceToDepth x -> o : odd", vec![int("blocksize", 2), int("wobble", 1)]),
        node("Add nothing x -> p : dangling", vec![]),
    ];
    let known = vec![floats("s", &[4]), floats("w", &[4, 7, 1, 1])];
    insta::assert_snapshot!(message(&model(&[1, 3, 4, 4], nodes, known, "y")));
}

/// From operator set 7 to 13, a batch norm with several outputs is one in training, whoever reads them: its statistics are
/// those of what it normalises.
#[test]
fn a_batch_norm_whose_statistics_are_outputs_trains() {
    let norm = |opset: i64, images: i64, outputs: &str, attributes: Vec<proto::Attribute>, output: &str| {
        let nodes = vec![node(&format!("BatchNormalization x s b m v -> {outputs} : norm"), attributes)];
        let known = ["s", "b", "m", "v"].map(|name| floats(name, &[3])).to_vec();
        let mut model = model(&[images, 3, 2, 1], nodes, known, output);
        model.opset_import[0].version = opset;
        model
    };
    let told = |opset: i64, outputs: &str, attributes| {
        import(&norm(opset, 2, outputs, attributes, "y")).map(|graph| graph.to_string()).map_err(|e| e.to_string())
    };
    for opset in [7, 8, 9, 13] {
        assert!(told(opset, "y m1 v1 sm sv", vec![]).unwrap().contains("reduce"), "{opset}");
        assert!(told(opset, "y", vec![]).unwrap().contains("batch_norm"), "{opset}");
    }
    assert!(!told(6, "y m1 v1 sm sv", vec![]).unwrap().contains("batch_norm"), "the default is training");
    assert!(told(6, "y m1 v1 sm sv", vec![int("is_test", 1)]).unwrap().contains("batch_norm"));
    assert!(told(14, "y m1 v1", vec![]).unwrap().contains("batch_norm"), "an attribute says so from here on");
    let train = || vec![int("training_mode", 1)];
    assert!(message(&norm(9, 2, "y m1 v1 sm sv", vec![], "m1")).contains("running statistics are not kept"));

    // Channel 2 is 4, 5 and 10, 11: its mean is 7.5, the squares' mean (3.5² + 2.5²) / 2. Scale and bias are 2.
    let [ys] = &computed(&norm(14, 2, "y m1 v1", train(), "y"))[..] else { panic!("one output") };
    let deviation = (9.25f32 + 1e-5).sqrt();
    for (index, centred) in [(4, -3.5f32), (5, -2.5), (10, 2.5), (11, 3.5)] {
        let due = centred / deviation * 2.0 + 2.0;
        assert!((ys[index] - due).abs() < 1e-5, "{index}: {} is not {due}", ys[index]);
    }
    let [means] = &computed(&norm(14, 2, "y m1 v1", train(), "m1"))[..] else { panic!("one output") };
    let due: Vec<f32> = [3.5f32, 5.5, 7.5].iter().zip(0..).map(|(m, old)| m * 0.1 + old as f32 * 0.9).collect();
    assert!(means.iter().zip(&due).all(|(a, b)| (a - b).abs() < 1e-5), "{means:?} are not {due:?}");
    // Of one image the statistics are its own.
    assert!(text(&norm(14, 1, "y", train(), "y")).contains("instance_norm"));
}

/// PyTorch computes the statistics of a norm without running ones itself.
#[test]
fn a_batch_norm_by_computed_statistics() {
    let nodes = vec![
        node("ReduceMean x -> m", vec![ints("axes", &[0, 2, 3]), int("keepdims", 0)]),
        node("Abs m -> v", vec![]),
        node("BatchNormalization x s b m v -> y", vec![]),
    ];
    let model = model(&[2, 3, 2, 1], nodes, vec![floats("s", &[3]), floats("b", &[3])], "y");
    let [ys] = &computed(&model)[..] else { panic!("one output") };
    let due = (4.0 - 7.5) / (7.5f32 + 1e-5).sqrt() * 2.0 + 2.0;
    assert!((ys[4] - due).abs() < 1e-5, "{} is not {due}", ys[4]);
}

/// Windows of 2 by 2 with padding at the top, one beyond the border, and dilated ones.
#[test]
fn positions_of_maxima() {
    let pool = |attributes: Vec<proto::Attribute>| {
        let nodes = vec![node("Mul x sign -> a", vec![]), node("MaxPool a -> m y : pool", attributes)];
        model(&[1, 2, 3, 4], nodes, vec![longs_as_floats("sign", &[2, 1, 1], &[1, -1])], "y")
    };
    let places = |attributes| computed(&pool(attributes)).remove(0);
    let two = || ints("kernel_shape", &[2, 2]);
    // The second channel descends: the first element of a window is the largest there.
    let plain = places(vec![two(), ints("strides", &[2, 2]), ints("pads", &[1, 0, 0, 0])]);
    assert_eq!(plain, [1.0, 3.0, 9.0, 11.0, 12.0, 14.0, 16.0, 18.0]);
    let beyond = places(vec![two(), ints("strides", &[2, 2]), int("ceil_mode", 1)]);
    assert_eq!(beyond, [5.0, 7.0, 9.0, 11.0, 12.0, 14.0, 20.0, 22.0]);
    let dilated = places(vec![two(), ints("dilations", &[2, 2])]);
    assert_eq!(dilated, [10.0, 11.0, 12.0, 13.0]);
    let by_columns = places(vec![two(), int("storage_order", 1), ints("strides", &[1, 2])]);
    assert_eq!(by_columns, [4.0, 10.0, 5.0, 11.0, 12.0, 18.0, 13.0, 19.0]);
    let points = places(vec![ints("kernel_shape", &[1, 1])]);
    assert_eq!(points, (0..24).map(|i| i as f32).collect::<Vec<_>>());
    let volume = vec![node("MaxPool x -> m y : pool", vec![ints("kernel_shape", &[2, 2, 2])])];
    assert!(message(&model(&[1, 1, 2, 2, 2], volume, vec![], "y")).contains("positions of maxima in volumes"));
}

fn longs_as_floats(name: &str, dims: &[i64], values: &[i64]) -> proto::Tensor {
    proto::Tensor { float_data: values.iter().map(|&v| v as f32).collect(), ..floats(name, dims) }
}

#[test]
fn maxima_are_put_back() {
    let unpooled = |known: Vec<proto::Tensor>, inputs: &str| {
        let nodes = vec![
            node("MaxPool x -> m p", vec![ints("kernel_shape", &[2, 2]), ints("strides", &[2, 2])]),
            node(
                &format!("MaxUnpool m p {inputs} -> y"),
                vec![ints("kernel_shape", &[2, 2]), ints("strides", &[2, 2])],
            ),
        ];
        model(&[1, 1, 4, 4], nodes, known, "y")
    };
    let placed = |width: usize, rows: usize| {
        let mut all = vec![0.0; width * rows];
        for (row, column) in [(1, 1), (1, 3), (3, 1), (3, 3)] {
            all[row * width + column] = (row * 4 + column) as f32;
        }
        all
    };
    assert_eq!(computed(&unpooled(vec![], "")), [placed(4, 4)]);
    assert_eq!(computed(&unpooled(vec![longs("to", &[1, 1, 5, 6])], "to")), [placed(6, 5)]);
    assert!(message(&unpooled(vec![longs("to", &[1, 1, 3, 4])], "to")).contains("an output of [1, 1, 3, 4]"));
}

#[test]
fn diagonals() {
    let nodes = vec![node("EyeLike x -> e", vec![int("k", 1)]), node("Add x e -> y", vec![])];
    assert_eq!(computed(&model(&[2, 3], nodes, vec![], "y")), [vec![0.0, 2.0, 2.0, 3.0, 4.0, 6.0]]);
}

#[test]
fn first_states_have_their_sizes() {
    let nodes = vec![node("LSTM x w r _ _ h c -> y : lstm", vec![int("hidden_size", 2)])];
    let known = vec![
        floats("w", &[1, 8, 3]),
        floats("r", &[1, 8, 2]),
        proto::Tensor { float_data: vec![0.0; 2], ..floats("h", &[1, 1, 2]) },
        proto::Tensor { float_data: vec![0.0; 3], ..floats("c", &[1, 1, 3]) },
    ];
    let message = message(&model(&[4, 1, 3], nodes, known, "y"));
    assert!(message.contains("input 6, a first state of sizes [1, 1, 3] where [1, 1, 2] are due"), "{message}");
}

/// What TorchScript makes of lists: parts of a value, gone through and joined again.
#[test]
fn sequences_of_values() {
    let joined = |nodes: Vec<proto::Node>| {
        let known = vec![longs("parts", &[1, 3]), number_of("two", 2), number_of("last", -1), number_of("first", 0)];
        model(&[2, 4], nodes, known, "y")
    };
    let split = |sizes: &str| node(&format!("SplitToSequence x {sizes} -> s"), vec![int("axis", 1)]);
    let nodes = vec![
        split("parts"),
        node("SequenceAt s last -> b", vec![]),
        node("SequenceErase s -> left", vec![]),
        node("SequenceInsert left b first -> turned", vec![]),
        node("ConcatFromSequence turned -> y", vec![int("axis", 1)]),
    ];
    assert_eq!(computed(&joined(nodes)), [vec![1., 2., 3., 0., 5., 6., 7., 4.]]);
    let nodes = vec![
        split("two"),
        node("SequenceLength s -> n", vec![]),
        node("Cast n -> f", vec![int("to", data_type::FLOAT.into())]),
        node("ConcatFromSequence s -> c", vec![int("axis", -1), int("new_axis", 1)]),
        node("Mul c f -> y", vec![]),
    ];
    assert_eq!(computed(&joined(nodes)), [vec![0., 4., 2., 6., 8., 12., 10., 14.]]);
    let nodes = vec![
        node("SplitToSequence x -> s", vec![int("keepdims", 0)]),
        node("SequenceAt s last -> a", vec![]),
        node("SequenceEmpty -> e", vec![]),
        node("SequenceInsert e a -> l", vec![]),
        node("SequenceInsert l a -> ll", vec![]),
        node("ConcatFromSequence ll -> y", vec![int("axis", 0)]),
    ];
    assert_eq!(computed(&joined(nodes)), [vec![4., 5., 6., 7., 4., 5., 6., 7.]]);
    let wrong = [
        joined(vec![split("two"), node("SequenceAt s five -> y", vec![])]),
        joined(vec![split("two"), node("Relu s -> y", vec![])]),
        joined(vec![node("SplitToSequence x parts -> s", vec![]), node("SequenceAt s first -> y", vec![])]),
        joined(vec![node("SequenceEmpty -> s", vec![]), node("ConcatFromSequence s -> y", vec![int("axis", 0)])]),
        joined(vec![split("two"), node("Identity s -> y", vec![])]),
        joined(vec![
            split("two"),
            node("SequenceConstruct x parts -> t", vec![]),
            node("ConcatFromSequence t -> y", vec![int("axis", 2), int("new_axis", 1)]),
        ]),
        model(
            &[1, 40_000],
            vec![node("SplitToSequence x -> s", vec![int("axis", 1)]), node("SequenceAt s five -> y", vec![])],
            vec![],
            "y",
        ),
        joined(vec![split("two"), node("SequenceConstruct s s -> t", vec![]), node("SequenceAt t first -> y", vec![])]),
    ];
    let messages = wrong.map(|mut model| {
        model.graph.as_mut().unwrap().initializer.push(number_of("five", 5));
        message(&model)
    });
    insta::assert_snapshot!(messages.join("\n"));
}

/// Each node that lengthens a sequence copies it: thousands of them take memory by their square.
#[test]
fn sequences_do_not_grow_without_bound() {
    let mut nodes = vec![node("SequenceEmpty -> s0", vec![])];
    nodes.extend((0..6000).map(|i| node(&format!("SequenceInsert s{i} x -> s{}", i + 1), vec![])));
    nodes.push(node("ConcatFromSequence s6000 -> y", vec![int("axis", 0)]));
    let message = message(&model(&[1, 2], nodes, vec![], "y"));
    assert!(message.contains("computing constants would take more than"), "{message}");
}

fn number_of(name: &str, value: i64) -> proto::Tensor {
    proto::Tensor { dims: vec![], ..longs(name, &[value]) }
}

#[test]
fn an_output_that_the_operator_does_not_have_is_no_network() {
    let nodes = || vec![node("Relu x -> y mask : relu", vec![])];
    insta::assert_snapshot!(message(&model(&[1, 3], nodes(), vec![], "mask")));
    assert!(import(&model(&[1, 3], nodes(), vec![], "y")).is_ok(), "nobody reads it");
}

#[test]
fn models_that_are_wrong_as_a_whole() {
    let relu = || vec![node("Relu x -> y", vec![])];
    let mut old = model(&[1, 3], relu(), vec![], "y");
    old.opset_import[0].version = 99;
    let mut tokens = model(&[1, 3], relu(), vec![], "y");
    let ty = tokens.graph.as_mut().unwrap().input[0].ty.as_mut().unwrap();
    ty.tensor_type.as_mut().unwrap().elem_type = 8;
    let mut broken = model(&[1, 3], relu(), vec![floats("w", &[2])], "y");
    broken.graph.as_mut().unwrap().initializer[0].float_data.pop();
    let mut twice = model(&[1, 3], vec![node("Relu x -> y : relu", vec![])], vec![], "y");
    twice.graph.as_mut().unwrap().output.push(value("y", &[1, 3]));
    let cases = [
        old,
        tokens,
        broken,
        model(&[0, 3, 0, 0], relu(), vec![], "y"),
        model(&[1, 3], relu(), vec![], "nowhere"),
        model(&[1 << 40, 1 << 40], relu(), vec![], "y"),
        twice,
        model(&[1, 3], vec![node("Relu x -> y : first", vec![]), node("Elu x -> y : second", vec![])], vec![], "y"),
        model(&[1, 3], relu(), vec![floats("w", &[2]), floats("w", &[2])], "y"),
        proto::Model::default(),
    ];
    let messages: Vec<String> = cases.iter().map(message).collect();
    insta::assert_snapshot!(messages.join("\n"));
}

#[test]
fn what_importing_computes_is_limited() {
    let nodes = vec![
        node("ConstantOfShape huge -> a", vec![]),
        node("Expand one huge -> b", vec![]),
        node("Tile one huge -> c", vec![]),
        node("Range zero many step -> d", vec![]),
        node("Relu x -> y", vec![]),
    ];
    let known = vec![
        longs("huge", &[1 << 31, 1 << 31]),
        floats("one", &[1, 1]),
        number("zero", 0.0),
        number("many", 1e18),
        number("step", 1.0),
    ];
    insta::assert_snapshot!(message(&model(&[1], nodes, known, "y")));
}

#[test]
fn models_are_known_by_their_first_bytes() {
    assert!(super::is_onnx(b"\x08\x08\x12\x07pytorch"));
    assert!(super::is_onnx(b"\x08\x0a\x3a\xff\x01\x0a"));
    for other in [&b"netc 1"[..], b"\x08", b"\x08\x08", b"\x08\x00\x12\x07", b"PK\x03\x04", b"\x80\x02}q\x00."] {
        assert!(!super::is_onnx(other), "{other:?}");
    }
    // The headers of these have lengths that look like fields.
    assert!(!super::is_onnx(b"\x08\x0a\x00\x00\x00\x00\x00\x00{\"fc\""));
    assert!(!super::is_onnx(b"\x08\x0a\x12\x00\x00\x00\x00\x00{\"fc\""));
}

/// A bound that is open, by what it is or because it is not there, keeps infinities.
#[test]
fn infinities_pass_open_bounds() {
    let nodes = vec![
        node("Max x one -> a", vec![]),
        node("Min x one -> b", vec![]),
        node("Clip x one -> c", vec![]),
        node("Clip x _ one -> d", vec![]),
        node("Concat a b c d -> y", vec![int("axis", 0)]),
    ];
    let graph = import(&model(&[1, 4], nodes, vec![number("one", 1.0)], "y")).unwrap_or_else(|e| panic!("{e}"));
    const I: f32 = f32::INFINITY;
    let x = crate::tensor::Tensor::new([1, 4], vec![I, -I, f32::NAN, 2.0]);
    let y = crate::interpreter::run(&graph, &[x]).unwrap();
    let values: Vec<String> = y[0].data().iter().map(f32::to_string).collect();
    let (above, below) = ("inf 1 NaN 2", "1 -inf NaN 1");
    assert_eq!(values.join(" "), [above, below, above, below].join(" "));
}

/// Attributes that operators need to get as far as their inputs' sizes.
fn needed_attributes(op: &str) -> Vec<proto::Attribute> {
    match op {
        "MaxPool" | "AveragePool" => vec![ints("kernel_shape", &[1, 1])],
        "LRN" => vec![int("size", 3)],
        "DepthToSpace" | "SpaceToDepth" => vec![int("blocksize", 2)],
        "GroupNormalization" => vec![int("num_groups", 1)],
        "Cast" => vec![int("to", 1)],
        _ => vec![],
    }
}

/// Every operator on values of every rank, with known and computed inputs of other ranks: a graph or a
/// reason, never a panic.
#[test]
fn no_operator_relies_on_a_rank() {
    const OPERATORS: &[&str] = &[
        "Conv",
        "ConvTranspose",
        "MaxPool",
        "AveragePool",
        "GlobalAveragePool",
        "GlobalMaxPool",
        "BatchNormalization",
        "InstanceNormalization",
        "LayerNormalization",
        "GroupNormalization",
        "LRN",
        "Gemm",
        "MatMul",
        "Add",
        "Sub",
        "Mul",
        "Div",
        "Max",
        "Min",
        "Sum",
        "Mean",
        "Pow",
        "Relu",
        "Sigmoid",
        "Tanh",
        "Softplus",
        "HardSwish",
        "Exp",
        "Log",
        "Sqrt",
        "Abs",
        "Neg",
        "LeakyRelu",
        "Elu",
        "HardSigmoid",
        "Gelu",
        "Clip",
        "Selu",
        "Celu",
        "Softsign",
        "Mish",
        "Swish",
        "Reciprocal",
        "Erf",
        "PRelu",
        "Softmax",
        "LogSoftmax",
        "ReduceMean",
        "ReduceMax",
        "ReduceMin",
        "ReduceSum",
        "ReduceL1",
        "ReduceL2",
        "ReduceSumSquare",
        "Concat",
        "Split",
        "Slice",
        "Gather",
        "Transpose",
        "Reshape",
        "Flatten",
        "Squeeze",
        "Unsqueeze",
        "Pad",
        "Expand",
        "Tile",
        "DepthToSpace",
        "SpaceToDepth",
        "Resize",
        "Upsample",
        "Identity",
        "Dropout",
        "Cast",
        "CastLike",
        "ConstantOfShape",
        "Shape",
        "Size",
        "Range",
        "Where",
        "Equal",
        "Floor",
        "Mod",
        "CumSum",
        "DequantizeLinear",
        "ReduceProd",
        "If",
    ];
    for op in OPERATORS {
        for rank in 0..5 {
            for other in 0..5 {
                let (x, w) = (vec![2; rank], vec![2; other]);
                let vector = vec![2; other.min(1)];
                let known = vec![
                    floats("w", &w),
                    floats("v", &vector),
                    floats("k", &x),
                    longs("i", &vec![1; other]),
                    proto::Tensor { dims: vec![], ..longs("s", &[1]) },
                    floats("empty", &[0]),
                ];
                let calls = [
                    "x",
                    "x w",
                    "x w v",
                    "x v v v v",
                    "w x",
                    "k x w",
                    "x x",
                    "k w",
                    "k w v",
                    "k i",
                    "x i",
                    "x i i",
                    "x _ w",
                    "x s",
                    "x empty",
                    "empty k",
                    "x _ _ i",
                    "s",
                    "i",
                    "x i i i i",
                    "k i i i i",
                    "",
                ];
                for call in calls {
                    for axis in [None, Some(int("axis", 3))] {
                        let attributes = needed_attributes(op).into_iter().chain(axis).collect();
                        let nodes = vec![node(&format!("{op} {call} -> y"), attributes)];
                        let model = model(&x, nodes, known.clone(), "y");
                        let made = std::panic::catch_unwind(|| import(&model).map(|graph| ir::verify(&graph).is_ok()));
                        assert!(made.is_ok(), "{op}({call}) of ranks {rank} and {other}");
                    }
                }
            }
        }
    }
}

#[test]
fn convolutions_name_the_rank_that_they_cannot_take() {
    let of = |op: &str, x: &[i64], w: &[i64]| {
        message(&model(x, vec![node(&format!("{op} x w -> y"), vec![])], vec![floats("w", w)], "y"))
    };
    for op in ["Conv", "ConvTranspose"] {
        for (x, w) in [(&[][..], &[][..]), (&[4], &[4]), (&[4, 4], &[4, 4])] {
            let message = of(op, x, w);
            assert!(message.contains(&format!("a value of {} axes", x.len())), "{message}");
        }
        assert!(of(op, &[1, 2, 5, 5], &[4]).contains("its weights have 1 axes, its input 4"));
        assert!(of(op, &[1, 2, 5], &[]).contains("its weights have 0 axes, its input 3"));
    }
}

/// What takes time by the square of the nodes would take minutes here in a build without optimization.
#[test]
fn many_nodes_of_one_kind() {
    const NODES: usize = 20_000;
    let many = |call: &dyn Fn(usize) -> String| (0..NODES).map(|i| node(&call(i), vec![])).collect::<Vec<_>>();
    let mut concats = many(&|i| format!("Concat x x -> a{i}"));
    concats.push(node("Add a0 a1 -> y", vec![]));
    let known = vec![floats("c", &[4])];
    let good = [
        concats,
        many(&|i| format!("Mul t{i} c -> t{}", i + 1)),
        many(&|i| format!("Add t{i} x -> t{}", i + 1)),
        many(&|i| format!("Relu t{i} -> t{} : same", i + 1)),
    ];
    for (i, mut nodes) in good.into_iter().enumerate() {
        nodes.insert(0, node("Identity x -> t0", vec![]));
        nodes.push(node(if i == 0 { "Identity y -> z" } else { "Identity t20000 -> z" }, vec![]));
        let graph = import(&model(&[1, 4], nodes, known.clone(), "z")).unwrap_or_else(|e| panic!("{i}: {e}"));
        ir::verify(&graph).unwrap();
    }
    // As many different problems; a message tells some.
    let bad = model(&[1, 4], many(&|i| format!("Foo{i} x -> y{i}")), vec![], "y0");
    let message = message(&bad);
    assert!(message.ends_with("and 19900 other problems"), "{}", &message[message.len() - 100..]);
    // And as many inputs.
    let names: Vec<String> = (0..NODES).map(|i| format!("x{i}")).collect();
    let mut wide = model(&[1, 4], vec![node(&format!("Sum {} -> y", names.join(" ")), vec![])], vec![], "y");
    wide.graph.as_mut().unwrap().input = names.iter().map(|name| value(name, &[1, 4])).collect();
    assert_eq!(import(&wide).unwrap().inputs().len(), NODES);
}

/// Layers that read one initializer have one weight, also where it is transposed for them first; what is read for
/// something else is another.
#[test]
fn layers_that_read_one_initializer_share_it() {
    let nodes = vec![
        node("MatMul x w -> a : a", vec![]),
        node("Add a b -> a1 : a1", vec![]),
        node("Gemm a1 w b -> c : c", vec![]),
        node("Gemm c w b -> d : d", vec![int("transB", 1)]),
        node("Gemm d w b -> y : y", vec![int("transB", 1)]),
    ];
    let known = vec![floats("w", &[3, 3]), floats("b", &[3])];
    let graph = import(&model(&[2, 3], nodes, known, "y")).unwrap_or_else(|e| panic!("{e}"));
    let layers: Vec<_> = graph.order().into_iter().filter(|&n| !graph.parameters(n).is_empty()).collect();
    let [a, c, d, y] = layers[..] else { panic!("four layers: {graph}") };
    assert_eq!(graph.weights_of(a), graph.weights_of(c), "{graph}");
    assert_eq!(graph.weights_of(d), graph.weights_of(y), "{graph}");
    assert_eq!(graph.parameters(a)[1], graph.parameters(y)[1], "{graph}");
    assert_eq!((graph.all_parameters().count(), graph.total_params()), (3, 9 + 9 + 3), "{graph}");
}

/// Levels: an initializer of bytes.
fn bytes(name: &str, dims: &[i64], data_type: i32, raw: &[u8]) -> proto::Tensor {
    let raw_data = raw.to_vec().into();
    proto::Tensor { name: name.into(), dims: dims.to_vec(), data_type, raw_data, ..Default::default() }
}

/// What a quantized convolution and its operands are made of.
fn quantized_parts() -> Vec<proto::Tensor> {
    vec![
        number("xs", 0.05),
        bytes("xz", &[], data_type::UINT8, &[120]),
        bytes("w", &[2, 3, 1, 1], data_type::INT8, &[1, 255, 3, 100, 129, 7]),
        proto::Tensor { float_data: vec![0.5, 0.25], ..floats("ws", &[2]) },
        bytes("wz", &[2], data_type::INT8, &[0, 0]),
        proto::Tensor {
            name: "b".into(),
            dims: vec![2],
            data_type: data_type::INT32,
            int32_data: vec![40, -800],
            ..Default::default()
        },
        proto::Tensor { float_data: vec![0.05 * 0.5, 0.05 * 0.25], ..floats("bs", &[2]) },
        number("ys", 0.25),
        bytes("yz", &[], data_type::UINT8, &[3]),
    ]
}

/// Pairs of quantize and dequantize, and a pool on levels between them.
#[test]
fn quantized_models_are_numbers_on_grids() {
    let pool = vec![ints("kernel_shape", &[2, 2]), ints("strides", &[2, 2])];
    let nodes = vec![
        node("QuantizeLinear x xs xz -> xq", vec![]),
        node("DequantizeLinear xq xs xz -> xd", vec![]),
        node("DequantizeLinear w ws wz -> wd", vec![int("axis", 0)]),
        node("DequantizeLinear b bs -> bd", vec![int("axis", 0)]),
        node("Conv xd wd bd -> c : conv", vec![]),
        node("QuantizeLinear c ys yz -> q", vec![]),
        node("MaxPool q -> m", pool.clone()),
        node("DequantizeLinear m ys yz -> y", vec![]),
    ];
    let pairs = import(&model(&[1, 3, 4, 4], nodes, quantized_parts(), "y")).unwrap_or_else(|e| panic!("{e}"));
    let weights: Vec<String> = pairs
        .weights
        .iter()
        .map(|(id, weight)| format!("{weight:?} = {:?}", (*pairs.weights.values(id)).as_ref()))
        .collect();
    insta::assert_snapshot!(format!("{pairs}\n{}", weights.join("\n")));
    let nodes = vec![
        node("QuantizeLinear x xs xz -> xq", vec![]),
        node("QLinearConv xq xs xz w ws wz ys yz b -> q : conv", vec![]),
        node("MaxPool q -> m", pool),
        node("DequantizeLinear m ys yz -> y", vec![]),
    ];
    let one = import(&model(&[1, 3, 4, 4], nodes, quantized_parts(), "y")).unwrap_or_else(|e| panic!("{e}"));
    let inputs = crate::testing::random_inputs(&one, 3);
    let [of_pairs, of_one] = [&pairs, &one].map(|graph| crate::interpreter::run(graph, &inputs).unwrap());
    assert_eq!(of_pairs, of_one);
}

/// Levels that the model gives, or sums of them, come as f32.
#[test]
fn levels_are_whole_numbers_where_they_are_wanted() {
    let x = || crate::tensor::Tensor::new([1, 2, 1, 3], vec![0.0, 2.0, -3.0, -2.5, 1.34, 0.5]);
    let run = |nodes: Vec<proto::Node>, known: Vec<proto::Tensor>| {
        let graph = import(&model(&[1, 2, 1, 3], nodes, known, "y")).unwrap_or_else(|e| panic!("{e}"));
        crate::interpreter::run(&graph, &[x()]).unwrap()[0].data().to_vec()
    };
    let known = || vec![number("s", 0.5), bytes("z", &[], data_type::INT8, &[254])];
    let quantize = node("QuantizeLinear x s z -> q", vec![]);
    assert_eq!(run(vec![node("QuantizeLinear x s z -> y", vec![])], known()), [-2.0, 2.0, -8.0, -7.0, 1.0, -1.0]);
    let twice = vec![quantize.clone(), node("DequantizeLinear q other z -> y", vec![])];
    let other = [known(), vec![number("other", 1.0)]].concat();
    assert_eq!(run(twice, other), [0.0, 4.0, -6.0, -5.0, 3.0, 1.0]);
    // The sum of both channels, of levels less the zero point.
    let weight = bytes("w", &[1, 2, 1, 1], data_type::INT8, &[2, 255]);
    let sums = vec![quantize, node("ConvInteger q w z -> y : conv", vec![])];
    assert_eq!(run(sums, [known(), vec![weight]].concat()), [5.0, 5.0, -13.0]);
    // The standard's example.
    let dynamic = vec![node("DynamicQuantizeLinear x -> y s2 z2", vec![])];
    assert_eq!(run(dynamic, vec![]), [153.0, 255.0, 0.0, 26.0, 221.0, 179.0]);
}

#[test]
fn floats_of_other_types_are_named() {
    let of = |weights: Vec<proto::Tensor>| {
        let model = model(&[1, 3, 4, 4], vec![node("Relu x -> y", vec![])], weights, "y");
        let file = ModelFile::from_bytes(Path::new("model.onnx"), model.encode_to_vec()).unwrap();
        crate::interop::onnx::other_floats(&file)
    };
    let halves = |dims: &[i64]| bytes("w", dims, data_type::FLOAT16, &[0; 4]);
    assert_eq!(of(vec![floats("w", &[2, 2])]), None);
    assert_eq!(of(vec![halves(&[2])]), None);
    assert_eq!(of(vec![halves(&[2, 1])]), Some("float16"));
}

/// Two to a byte, an odd number of them, and blocks with scales of their own.
#[test]
fn weights_of_four_bits_and_in_blocks() {
    let raw = [0x21u8, 0xf8, 0x07];
    let known = vec![
        bytes("w", &[1, 5, 1, 1], data_type::INT4, &raw),
        proto::Tensor { float_data: vec![0.5, 2.0, 4.0], ..floats("s", &[1, 3, 1, 1]) },
    ];
    let nodes = vec![
        node("DequantizeLinear w s -> v", vec![int("axis", 1), int("block_size", 2)]),
        node("Conv x v -> y : conv", vec![]),
    ];
    let graph = import(&model(&[1, 5, 1, 1], nodes, known, "y")).unwrap_or_else(|e| panic!("{e}"));
    let (weight, _) = graph.weights.iter().next().unwrap();
    assert_eq!((*graph.weights.values(weight)).as_ref(), [0.5, 1.0, -16.0, -2.0, 28.0]);
}

/// Exporters write an axis beside one scale, which has none.
#[test]
fn one_scale_has_no_axis() {
    let known = vec![bytes("w", &[2, 3, 1, 1], data_type::INT8, &[1, 255, 3, 100, 129, 7]), number("s", 0.5)];
    let nodes = vec![node("DequantizeLinear w s -> v", vec![int("axis", 1)]), node("Conv x v -> y : conv", vec![])];
    let graph = import(&model(&[1, 3, 1, 1], nodes, known, "y")).unwrap_or_else(|e| panic!("{e}"));
    assert!(graph.to_string().contains("conv2d_w8"), "{graph}");
}

/// Bytes less a zero point that is not in their middle have a sign beside 8 bits.
#[test]
fn weights_of_unsigned_bytes() {
    let imported = |zero: u8| {
        let known = vec![
            bytes("w", &[2, 3, 1, 1], data_type::UINT8, &[1, 255, 3, 100, 129, 7]),
            bytes("z", &[], data_type::UINT8, &[zero]),
            number("s", 0.5),
        ];
        let nodes = vec![node("DequantizeLinear w s z -> v", vec![]), node("Conv x v -> y : conv", vec![])];
        let graph = import(&model(&[1, 3, 1, 1], nodes, known, "y")).unwrap_or_else(|e| panic!("{e}"));
        let (weight, declared) = graph.weights.iter().next().unwrap();
        let values = (*graph.weights.values(weight)).as_ref().to_vec();
        (declared.shape.element(), values, graph.to_string().contains("bits=9"))
    };
    assert_eq!(imported(128), (Element::I8, vec![-127.0, 127.0, -125.0, -28.0, 1.0, -121.0], false));
    assert_eq!(imported(100), (Element::I16, vec![-99.0, 155.0, -97.0, 0.0, 29.0, -93.0], true));
    assert_eq!(imported(255), (Element::I16, vec![-254.0, 0.0, -252.0, -155.0, -126.0, -248.0], true));
}

/// Levels of fewer bits, as tools write them whose operator set has none: a clip between quantize and dequantize.
#[test]
fn levels_between_bounds() {
    let level = |name: &str, level: u8| bytes(name, &[], data_type::INT8, &[level]);
    let known = || vec![number("s", 0.5), level("z", 0), level("low", 249), level("high", 7), level("lowest", 248)];
    let x = || crate::tensor::Tensor::new([1, 1, 1, 4], vec![-40.0, -3.7, 2.4, 9.0]);
    let run = |bounds: &str| {
        let nodes = vec![
            node("QuantizeLinear x s z -> q", vec![]),
            node(&format!("Clip q {bounds} -> c"), vec![]),
            node("DequantizeLinear c s z -> y", vec![]),
        ];
        let graph = import(&model(&[1, 1, 1, 4], nodes, known(), "y")).unwrap_or_else(|e| panic!("{e}"));
        (crate::interpreter::run(&graph, &[x()]).unwrap()[0].data().to_vec(), graph.to_string())
    };
    let (numbers, graph) = run("lowest high");
    assert_eq!(numbers, [-4.0, -3.5, 2.5, 3.5]);
    assert!(graph.contains("levels=i4") && !graph.contains("activation"), "{graph}");
    let (numbers, graph) = run("low high");
    assert_eq!(numbers, [-3.5, -3.5, 2.5, 3.5]);
    assert!(graph.matches("fake_quantize").count() == 1 && graph.contains("clip(-3.5,3.5)"), "{graph}");
    // Of weights the levels are known.
    let nodes = vec![
        node("QuantizeLinear w s z -> q", vec![]),
        node("Clip q low high -> c", vec![]),
        node("DequantizeLinear c s z -> v", vec![]),
        node("Conv x v -> y : conv", vec![]),
    ];
    let weight = proto::Tensor { float_data: vec![-40.0, 2.4], ..floats("w", &[2, 1, 1, 1]) };
    let graph = import(&model(&[1, 1, 1, 4], nodes, [known(), vec![weight]].concat(), "y")).unwrap();
    let (weight, declared) = graph.weights.iter().next().unwrap();
    assert_eq!((*graph.weights.values(weight)).as_ref(), [-7.0, 5.0]);
    assert_eq!(declared.shape.element(), Element::I8);
}

/// The same in the words of QONNX, of OpenVINO and of AMD.
#[test]
fn grids_of_other_domains() {
    let run = |domain: &str, call: &str, attributes: Vec<proto::Attribute>, further: Vec<proto::Node>| {
        let known = vec![
            number("s", 0.5),
            number("z", 0.0),
            number("odd", 3.0),
            number("four", 4.0),
            number("low", -3.5),
            number("high", 4.0),
            number("above", 1.0),
            number("wide", 8.0),
            proto::Tensor { float_data: vec![0.5, 0.25], ..floats("two", &[2, 1, 1]) },
            bytes("zero", &[], data_type::INT8, &[2]),
        ];
        let mut node = node(call, attributes);
        node.domain = domain.into();
        let nodes = [vec![node], further].concat();
        let model = model(&[1, 1, 1, 5], nodes, known, "y");
        let graph = import(&model).map_err(|_| message(&model))?;
        let x = crate::tensor::Tensor::new([1, 1, 1, 5], vec![-40.0, -3.8, 2.4, 3.9, 9.0]);
        Ok::<_, String>(crate::interpreter::run(&graph, &[x]).unwrap()[0].data().to_vec())
    };
    let qonnx = "qonnx.custom_op.general";
    let signed =
        |signed, narrow| vec![int("signed", signed), int("narrow", narrow), text_attribute("rounding_mode", "ROUND")];
    assert_eq!(run(qonnx, "Quant x s z four -> y", signed(1, 0), vec![]).unwrap(), [-4.0, -4.0, 2.5, 3.5, 3.5]);
    assert_eq!(run(qonnx, "Quant x s z four -> y", signed(1, 1), vec![]).unwrap(), [-3.5, -3.5, 2.5, 3.5, 3.5]);
    assert_eq!(run(qonnx, "Quant x s z four -> y", signed(0, 1), vec![]).unwrap(), [0.0, 0.0, 2.5, 4.0, 7.0]);
    let openvino = "org.openvinotoolkit";
    let of_16 = || vec![int("levels", 16)];
    let ends = run(openvino, "FakeQuantize x low high low high -> y", of_16(), vec![]).unwrap();
    assert_eq!(ends, [-3.5, -3.5, 2.5, 4.0, 4.0]);
    let back = node("DequantizeLinear q s zero -> y", vec![]);
    let amd = run("com.amd.quark", "ExtendedQuantizeLinear x s zero -> q", vec![], vec![back]).unwrap();
    assert_eq!(amd, [-40.0, -4.0, 2.5, 4.0, 9.0]);
    let refused = [
        run(qonnx, "Quant x s odd four -> y", signed(1, 0), vec![]),
        run(qonnx, "Quant x s wide four -> y", signed(1, 0), vec![]),
        run(qonnx, "Quant x two z four -> y", signed(1, 0), vec![]),
        run(qonnx, "Quant x s z s -> y", signed(1, 0), vec![]),
        run(qonnx, "Quant x z z four -> y", signed(1, 0), vec![]),
        run(qonnx, "Quant x s z four -> y", vec![text_attribute("rounding_mode", "FLOOR")], vec![]),
        run(qonnx, "BipolarQuant x s -> y", vec![], vec![]),
        run(openvino, "FakeQuantize x low high low wide -> y", of_16(), vec![]),
        run(openvino, "FakeQuantize x above high above high -> y", of_16(), vec![]),
        run(openvino, "FakeQuantize x high high high high -> y", of_16(), vec![]),
        run(openvino, "FakeQuantize x low high low high -> y", vec![int("levels", 1)], vec![]),
    ];
    insta::assert_snapshot!(refused.map(Result::unwrap_err).join("\n"));
}

/// Tools that give the largest number of a block the lowest level have scales below 0.
#[test]
fn scales_of_weights_may_be_negative() {
    let known = vec![
        bytes("w", &[2, 3, 1, 1], data_type::INT8, &[1, 255, 3, 129, 127, 7]),
        proto::Tensor { float_data: vec![0.5, -0.25], ..floats("s", &[2]) },
    ];
    let nodes = vec![node("DequantizeLinear w s -> v", vec![int("axis", 0)]), node("Conv x v -> y : conv", vec![])];
    let graph = import(&model(&[1, 3, 1, 1], nodes, known, "y")).unwrap_or_else(|e| panic!("{e}"));
    let values = |(id, _)| (*graph.weights.values(id)).as_ref().to_vec();
    let weights: Vec<Vec<f32>> = graph.weights.iter().map(values).collect();
    assert_eq!(weights, [vec![1.0, -1.0, 3.0, 127.0, -127.0, -7.0], vec![0.5, 0.25]]);
}

/// Numbers between levels lose what is behind the point, as a type of whole numbers does; a border is a level.
#[test]
fn levels_that_are_resized_and_padded() {
    let known = || {
        vec![
            number("s", 0.5),
            bytes("z", &[], data_type::UINT8, &[10]),
            proto::Tensor { float_data: vec![1.0, 1.0, 1.0, 2.0], ..floats("by", &[4]) },
            longs("pads", &[0, 0, 0, 1, 0, 0, 0, 0]),
        ]
    };
    let run = |node_of_levels: proto::Node| {
        let pair =
            [node("QuantizeLinear x s z -> q", vec![]), node_of_levels, node("DequantizeLinear r s z -> y", vec![])];
        let graph = import(&model(&[1, 1, 1, 2], pair.to_vec(), known(), "y")).unwrap_or_else(|e| panic!("{e}"));
        let x = crate::tensor::Tensor::new([1, 1, 1, 2], vec![-4.0, 1.0]);
        let result = crate::interpreter::run(&graph, &[x]).unwrap()[0].data().to_vec();
        (result, graph.to_string())
    };
    // The levels 2 and 12: 2, 4.5, 9.5, 12.
    let (linear, _) = run(node("Resize q _ by -> r", vec![text_attribute("mode", "linear")]));
    assert_eq!(linear, [-4.0, -3.0, -0.5, 1.0]);
    let (nearest, graph) = run(node("Resize q _ by -> r", vec![text_attribute("mode", "nearest")]));
    assert_eq!(nearest, [-4.0, -4.0, 1.0, 1.0]);
    assert_eq!(graph.matches("fake_quantize").count(), 1, "{graph}");
    let (padded, graph) = run(node("Pad q pads z -> r", vec![]));
    assert_eq!(padded, [0.0, -4.0, 1.0]);
    assert_eq!(graph.matches("fake_quantize").count(), 1, "{graph}");
    assert_eq!(run(node("Pad q pads -> r", vec![])).0, [-5.0, -4.0, 1.0]);
}

/// So do whole numbers that are on no grid.
#[test]
fn whole_numbers_that_are_resized() {
    let nodes = vec![
        node("Cast x -> i", vec![int("to", data_type::INT32.into())]),
        node("Resize i _ by -> r", vec![text_attribute("mode", "linear")]),
        node("Cast r -> y", vec![int("to", data_type::FLOAT.into())]),
    ];
    let by = proto::Tensor { float_data: vec![1.0, 1.0, 1.0, 2.0], ..floats("by", &[4]) };
    let graph = import(&model(&[1, 1, 1, 2], nodes, vec![by], "y")).unwrap_or_else(|e| panic!("{e}"));
    let x = crate::tensor::Tensor::new([1, 1, 1, 2], vec![2.0, -12.0]);
    // 2, −1.5, −8.5, −12.
    assert_eq!(crate::interpreter::run(&graph, &[x]).unwrap()[0].data(), [2.0, -1.0, -8.0, -12.0]);
}

/// What `quantize_dynamic` writes is a layer of numbers on a grid of their own.
#[test]
fn grids_that_are_computed() {
    let nodes = vec![
        node("DynamicQuantizeLinear x -> q s z", vec![]),
        node("ConvInteger q w z -> i : conv_quant", vec![]),
        node("Cast i -> f", vec![int("to", data_type::FLOAT.into())]),
        node("Mul s ws -> m", vec![]),
        node("Mul f m -> p", vec![]),
        node("Add p b -> y", vec![]),
    ];
    let known = vec![
        bytes("w", &[2, 3, 1, 1], data_type::INT8, &[1, 255, 3, 100, 129, 7]),
        proto::Tensor { float_data: vec![0.5, 0.25], ..floats("ws", &[1, 2, 1, 1]) },
        floats("b", &[1, 2, 1, 1]),
    ];
    insta::assert_snapshot!(text(&model(&[1, 3, 4, 4], nodes, known, "y")));
}

/// Packed matrices whose sizes do not fit, and those that netc does not take.
#[test]
fn packed_weights_are_checked() {
    let refused = |inputs: &str, attributes: &[(&str, i64)]| {
        let known = vec![
            bytes("w", &[2, 1, 8], data_type::UINT8, &[0x21; 16]),
            proto::Tensor { float_data: vec![0.5, 0.25], ..floats("s", &[2]) },
            proto::Tensor { float_data: vec![0.5, f32::NAN], ..floats("nan", &[2]) },
            number("one", 0.5),
            longs("g", &[0, 0]),
        ];
        let default = [("N", 2), ("K", 16), ("bits", 4), ("block_size", 16)];
        let other = |name: &str| attributes.iter().find(|(own, _)| *own == name).map(|(_, value)| *value);
        let mut all: Vec<_> = default.iter().map(|(name, value)| int(name, other(name).unwrap_or(*value))).collect();
        let more = attributes.iter().filter(|(name, _)| !default.iter().any(|(own, _)| own == name));
        all.extend(more.map(|(name, value)| int(name, *value)));
        let mut node = node(&format!("MatMulNBits {inputs} -> y : product"), all);
        node.domain = "com.microsoft".into();
        message(&model(&[3, 16], vec![node], known, "y"))
    };
    let found = [
        refused("x w one", &[]),
        refused("x w nan", &[]),
        refused("x w s", &[("N", 3)]),
        refused("x w s", &[("N", 0)]),
        refused("x w s", &[("K", i64::MAX)]),
        refused("x w s", &[("block_size", 0)]),
        refused("x w s", &[("bits", 3)]),
        refused("x w s one", &[]),
        refused("x w s _ g", &[]),
        refused("x x s", &[]),
        refused("x s s", &[]),
        refused("x w s", &[("weight_prepacked", 1)]),
    ];
    insta::assert_snapshot!(found.join("\n"));
}

#[test]
fn grids_that_are_none_are_refused() {
    let refused = |call: &str, attributes: Vec<proto::Attribute>| {
        let known = vec![
            number("s", 0.5),
            number("nothing", 0.0),
            number("negative", -0.5),
            number("nan", f32::NAN),
            number("infinite", f32::INFINITY),
            proto::Tensor { float_data: vec![0.5, 0.5], ..floats("two", &[2]) },
            bytes("z", &[], data_type::UINT8, &[3]),
            bytes("signed", &[], data_type::INT8, &[3]),
            bytes("w", &[2, 3, 1, 1], data_type::INT8, &[1, 255, 3, 100, 129, 7]),
            longs("long", &[3]),
        ];
        let levels = node("QuantizeLinear x s z -> q", vec![]);
        let named = node(call, attributes);
        let further = node("Identity v -> y", vec![]);
        let last = if call.ends_with("-> v") { vec![further] } else { vec![] };
        message(&model(&[1, 3, 4, 4], [vec![levels, named], last].concat(), known, "y"))
    };
    let found = [
        refused("QuantizeLinear x nothing z -> y", vec![]),
        refused("QuantizeLinear x negative z -> y", vec![]),
        refused("QuantizeLinear x nan z -> y", vec![]),
        refused("QuantizeLinear x infinite z -> y", vec![]),
        refused("DequantizeLinear w nothing -> v", vec![]),
        refused("DequantizeLinear w nan -> v", vec![]),
        refused("DequantizeLinear w s z -> v", vec![]),
        refused("DequantizeLinear w two -> v", vec![int("axis", 1)]),
        refused("DequantizeLinear w two -> v", vec![int("axis", 7)]),
        refused("DequantizeLinear q s signed -> y", vec![]),
        refused("QLinearConv q s signed w s signed s z -> y", vec![]),
        refused("QLinearConv q s z w s z s z -> y", vec![]),
        refused("QLinearConv q s z w two signed s z -> y", vec![]),
        refused("ConvInteger q w signed signed -> y", vec![]),
        refused("QuantizeLinear x two -> y", vec![]),
        refused("QuantizeLinear x s long -> y", vec![]),
        refused("QuantizeLinear x s -> y", vec![int("output_dtype", 17)]),
        refused("QuantizeLinear x s -> y", vec![int("block_size", 2)]),
        refused("DequantizeLinear x two -> y", vec![]),
        refused("QuantizeLinear x x -> y", vec![]),
    ];
    insta::assert_snapshot!(found.join("\n"));
    let listed = proto::Tensor { int32_data: vec![300], ..bytes("z", &[], data_type::UINT8, &[]) };
    let outside = vec![node("QuantizeLinear x s z -> y", vec![])];
    let message = message(&model(&[1, 3, 4, 4], outside, vec![number("s", 0.5), listed], "y"));
    assert_eq!(message, "model.onnx: initializer z: 300 is no number of type uint8");
}

/// A number beside a value is part of the function; a mask is a factor; what was found equal is found different.
#[test]
fn masks() {
    let nodes = vec![
        node("Greater x k -> g : beyond", vec![]),
        node("Cast g -> c : mask", vec![int("to", 1)]),
        node("Mul x c -> m : masked", vec![]),
        node("Less k m -> l : below", vec![]),
        node("Equal x m -> e : equal", vec![]),
        node("Not e -> n : differs", vec![]),
        node("And l n -> a : both", vec![]),
        node("Where a x zero -> w : chosen", vec![]),
        node("IsInf w -> i : infinite", vec![int("detect_negative", 0)]),
        node("Where i m w -> y : finite", vec![]),
    ];
    let known = vec![number("k", 0.25), number("zero", 0.0)];
    insta::assert_snapshot!(text(&model(&[0, 3, 4, 4], nodes, known, "y")));
}

/// Known indices are entries of an axis, in any spelling; tuples of several are a value.
#[test]
fn known_indices() {
    let nodes = vec![
        node("Transpose x -> t : first", vec![ints("perm", &[1, 0, 2, 3])]),
        node("GatherND t bgr -> g : bgr", vec![]),
        node("Transpose g -> b : back", vec![ints("perm", &[1, 0, 2, 3])]),
        node("Pad b pads -> p : around", vec![text_attribute("mode", "wrap")]),
        node("GatherND p corners -> y : corners", vec![]),
    ];
    let three = proto::Tensor { dims: vec![3, 1], ..longs("bgr", &[2, 1, -3]) };
    let corners = proto::Tensor { dims: vec![2, 2], ..longs("corners", &[0, 0, 0, -1]) };
    let known = vec![three, longs("pads", &[0, 0, 1, 0, 0, 0, 0, 2]), corners];
    insta::assert_snapshot!(text(&model(&[1, 3, 4, 4], nodes, known, "y")));
}

#[test]
fn what_indices_cannot_be() {
    let refused = |text: &str, known: Vec<proto::Tensor>, attributes: Vec<proto::Attribute>| {
        message(&model(&[1, 4], vec![node(text, attributes)], known, "y"))
    };
    let counted = |reader: &str| {
        let nodes = vec![node("NonZero x -> z", vec![]), node(reader, vec![])];
        message(&model(&[1, 4], nodes, vec![], "y"))
    };
    let found = [
        counted("Shape z -> y"),
        refused("TopK x k -> v y", vec![longs("k", &[9])], vec![]),
        refused("TopK x x -> v y", vec![], vec![]),
        refused("ScatterElements x i x -> y", vec![longs("i", &[1])], vec![text_attribute("reduction", "mean")]),
        refused("GatherElements x i -> y", vec![longs("i", &[1])], vec![]),
        refused("OneHot x d v -> y", vec![longs("d", &[0]), longs("v", &[0, 1])], vec![]),
        refused("Gather x i -> y", vec![longs("i", &[4])], vec![int("axis", 1)]),
        refused("NonMaxSuppression x x -> y", vec![], vec![]),
    ];
    insta::assert_snapshot!(found.join("\n"));
}

/// The outputs of a model, by the interpreter, for `0, 1, 2, …`.
fn computed(model: &proto::Model) -> Vec<Vec<f32>> {
    let graph = import(model).unwrap_or_else(|e| panic!("{e}"));
    let counted = |&id: &ir::NodeId| {
        let shape = graph.node(id).shape.clone();
        Tensor::new(shape.clone(), (0..shape.elements()).map(|i| i as f32).collect())
    };
    let inputs: Vec<Tensor> = graph.inputs().iter().map(counted).collect();
    let results = interpreter::run(&graph, &inputs).unwrap();
    results.into_iter().map(|tensor| tensor.to_element(Element::F32).data().to_vec()).collect()
}

#[test]
fn any_axis_is_padded_by_what_it_has() {
    let padded = |input: &[i64], mode: &str, pads: &[i64]| {
        let nodes = vec![node("Pad x pads -> y", vec![text_attribute("mode", mode)])];
        let result = import(&model(input, nodes.clone(), vec![longs("pads", pads)], "y"));
        result.map(|_| computed(&model(input, nodes, vec![longs("pads", pads)], "y")).remove(0))
    };
    // Rows of numbers.
    assert_eq!(padded(&[2, 3], "reflect", &[0, 2, 0, 1]).unwrap(), [2., 1., 0., 1., 2., 1., 5., 4., 3., 4., 5., 4.]);
    assert_eq!(padded(&[2, 3], "edge", &[0, 1, 0, 0]).unwrap(), [0., 0., 1., 2., 3., 3., 4., 5.]);
    // Channels of a sequence and of images.
    assert_eq!(padded(&[1, 3, 1], "reflect", &[0, 2, 0, 0, 1, 0]).unwrap(), [2., 1., 0., 1., 2., 1.]);
    assert_eq!(padded(&[1, 2, 1, 2], "edge", &[0, 1, 0, 0, 0, 1, 0, 0]).unwrap(), [0., 1., 0., 1., 2., 3., 2., 3.]);
    assert_eq!(padded(&[1, 2, 1, 2], "wrap", &[0, 1, 0, 0, 0, 0, 0, 1]).unwrap(), [2., 3., 2., 0., 1., 0., 2., 3., 2.]);
    // Both at once: each border shows the padded other axis.
    let both = padded(&[1, 2, 2, 2], "reflect", &[0, 1, 0, 1, 0, 0, 0, 0]).unwrap();
    assert_eq!(both, [5., 4., 5., 7., 6., 7., 1., 0., 1., 3., 2., 3., 5., 4., 5., 7., 6., 7.]);
    // The first axis, and five.
    assert_eq!(padded(&[3, 1], "reflect", &[1, 0, 0, 0]).unwrap(), [1., 0., 1., 2.]);
    let five = padded(&[1, 1, 2, 1, 1], "reflect", &[0, 0, 1, 0, 0, 0, 0, 1, 0, 0]).unwrap();
    assert_eq!(five, [1., 0., 1., 0.]);
    let error = padded(&[1, 3, 1], "reflect", &[0, 3, 0, 0, 0, 0]).unwrap_err().to_string();
    assert!(error.contains("Pad: it mirrors 3 entries of axis 1, which has 3"), "{error}");
}

/// `x` and a rate, which decides whether `x` is doubled.
fn with_rate() -> proto::Model {
    let branch = |factor: f32| proto::Graph {
        node: vec![node("Mul x factor -> b", vec![])],
        initializer: vec![number("factor", factor)],
        output: vec![value("b", &[])],
        ..Default::default()
    };
    let graph = |name: &str, factor| proto::Attribute {
        name: name.into(),
        g: Some(Box::new(branch(factor))),
        ty: attribute_type::GRAPH,
        ..Default::default()
    };
    let nodes = vec![
        node("Equal rate fast -> is_fast", vec![]),
        node("If is_fast -> y : choice", vec![graph("then_branch", 2.0), graph("else_branch", 1.0)]),
    ];
    let mut model = model(&[0, 2], nodes, vec![longs("fast", &[16000])], "y");
    let mut rate = value("rate", &[1]);
    rate.ty.as_mut().unwrap().tensor_type.as_mut().unwrap().elem_type = data_type::INT64;
    model.graph.as_mut().unwrap().input.push(rate);
    model
}

#[test]
fn inputs_are_fixed() {
    let model = with_rate();
    let message = message(&model);
    assert!(message.contains("If: input rate decides which branch is taken; `--fix rate=VALUE` makes it"), "{message}");
    let fixed = |input: &str, values: &[f64]| {
        let mut file = ModelFile::from_bytes(Path::new("model.onnx"), model.encode_to_vec()).unwrap();
        file.fix(input, values)?;
        let graph = import_file(&file, &Options::default()).map_err(|e| e.to_string())?;
        let inputs: Vec<_> = graph.inputs().iter().map(|&id| graph.node(id).name.clone().unwrap()).collect();
        assert_eq!(inputs, ["x"]);
        let x = Tensor::new([1usize, 2], vec![3.0, 4.0]);
        Ok(interpreter::run(&graph, &[x]).unwrap()[0].data().to_vec())
    };
    assert_eq!(fixed("rate", &[16000.0]).unwrap(), [6.0, 8.0]);
    assert_eq!(fixed("rate", &[8000.0]).unwrap(), [3.0, 4.0]);
    let error = |input, values: &[f64]| -> String { fixed(input, values).unwrap_err() };
    insta::assert_snapshot!(
        [
            error("rat", &[1.0]),
            error("rate", &[0.5]),
            error("rate", &[f64::NAN]),
            error("rate", &[1.0, 2.0]),
            error("rate", &[]),
        ]
        .join("\n")
    );
}

#[test]
fn a_named_size_is_the_same_everywhere() {
    let mut model = model(&[0, 2], vec![node("Identity x -> y", vec![])], vec![], "y");
    let state = value("s", &[0, 0]);
    model.graph.as_mut().unwrap().input.push(state);
    let sizes = |shapes: &[(&str, &[usize])], batch| {
        let file = ModelFile::from_bytes(Path::new("model.onnx"), model.encode_to_vec()).unwrap();
        let shapes = shapes.iter().map(|(name, dims)| (name.to_string(), dims.to_vec())).collect();
        let graph = import_file(&file, &Options { batch, shapes, ..Options::default() }).unwrap();
        graph.inputs().iter().map(|&id| graph.node(id).shape.dims().to_vec()).collect::<Vec<_>>()
    };
    assert_eq!(sizes(&[], 2), [[2, 2], [2, 2]]);
    assert_eq!(sizes(&[("x", &[3, 2])], 1), [[3, 2], [3, 3]]);
    assert_eq!(sizes(&[("batch", &[4])], 4)[1], [4, 4]);
}

/// Powers of numbers of both signs, and of 0.
#[test]
fn powers_by_one_exponent() {
    let known = |exponent: f32| {
        let nodes = vec![node("Sub x two -> d", vec![]), node("Pow d e -> y", vec![])];
        computed(&model(&[1, 4], nodes, vec![number("two", 2.0), number("e", exponent)], "y")).remove(0)
    };
    assert_eq!(known(0.0), [1.0; 4]);
    assert_eq!(known(3.0), [-8.0, -1.0, 0.0, 1.0]);
    assert_eq!(known(-2.0), [0.25, 1.0, f32::INFINITY, 1.0]);
}
