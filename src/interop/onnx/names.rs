//! What layers are called: by the names of their weights first, then by the node's.
//!
//! Exporters name weights as the training program does (`layer1.0.conv1.weight`), so that a label
//! taken from there makes the network's weights load from the original checkpoint, too. Where an
//! exporter folds layers together, weights get numbers; then the node's path is what is left.

use std::collections::HashSet;

use super::proto;
use crate::diagnostic::is_hidden;
use crate::interop::free_number;

/// Last parts of weights' names, as frameworks write them.
const ROLES: [&str; 29] = [
    "weight",
    "bias",
    "running_mean",
    "running_var",
    "kernel",
    "depthwise_kernel",
    "gamma",
    "beta",
    "moving_mean",
    "moving_variance",
    "weights",
    "biases",
    "scale",
    "offset",
    "mean",
    "var",
    "variance",
    "alpha",
    "slope",
    "shift",
    "w",
    "b",
    "W",
    "B",
    "w_0",
    "b_0",
    "w_1",
    "w_2",
    "b_1",
];
/// Parts of paths that say nothing: what TensorFlow and its exporters wrap names in.
const NOISE: [&str; 6] =
    ["StatefulPartitionedCall", "ReadVariableOp", "PartitionedCall", "BiasAdd", "resource", "model"];
const MAX_LENGTH: usize = 128;

/// An input of a node that is a weight: its name, and how many inputs of nodes it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weight<'n> {
    pub name: &'n str,
    pub uses: usize,
}

/// What a layer is called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Label {
    pub text: String,
    /// The model has no name for it: operators were counted, by the exporter or here.
    pub is_made_up: bool,
}

impl From<String> for Label {
    fn from(text: String) -> Self {
        Self { text, is_made_up: false }
    }
}

/// A name for what a node makes. `weights` are the inputs that are known.
pub(crate) fn label(node: &proto::Node, weights: &[Option<Weight>]) -> Label {
    // Of an operator on levels, scales and zero points are among the inputs.
    let is_weight =
        |name: &str| has_weights(&node.op_type) || is_quantized(&node.op_type) && without_kind(name) != name;
    let weights = || weights.iter().skip(1).flatten().filter(|weight| is_weight(weight.name));
    let owned = |w: &Weight| whole(w.name, &node.op_type).or_else(|| owner(w.name));
    // What several nodes read was one weight of each before the exporter found them equal.
    let own = || weights().filter(|w| w.uses == 1).find_map(owned);
    let shared = || weights().find_map(owned);
    let chosen = own().or_else(|| from_scopes(node)).or_else(shared);
    let is_chosen = chosen.is_some();
    let name = chosen.or_else(|| from_path(&node.name, &node.op_type));
    let text = cut(&name.unwrap_or_else(|| node.op_type.to_lowercase()));
    Label { is_made_up: !is_chosen && is_counted(&text, &node.op_type), text }
}

/// Whether a name says no more than an operator and a number: `Conv_12`, `node_conv2d_3`, `193`.
fn is_counted(name: &str, op_type: &str) -> bool {
    let word = name.trim_end_matches(|c: char| c.is_ascii_digit() || matches!(c, '_' | '-' | '.' | ':'));
    let is_operator = word.eq_ignore_ascii_case(op_type) || word.eq_ignore_ascii_case(of_standard(op_type));
    word.is_empty() || is_operator || name.starts_with("node_")
}

/// The operator of numbers that one of levels stands for.
fn of_standard(op_type: &str) -> &str {
    let quantized = || op_type.strip_prefix("QLinear").or_else(|| op_type.strip_prefix('Q'));
    ["Integer", "NBits"].iter().find_map(|suffix| op_type.strip_suffix(suffix)).or_else(quantized).unwrap_or(op_type)
}

/// An operator's name without what tools that quantize add to it.
fn without_tool(name: &str) -> &str {
    const TOOLS: [&str; 4] = ["_quant", "_Q2", "_Q4", "_Q8"];
    TOOLS.iter().find_map(|tool| name.strip_suffix(tool)).unwrap_or(name)
}

fn has_weights(op_type: &str) -> bool {
    matches!(
        op_type,
        "Conv"
            | "ConvTranspose"
            | "Gemm"
            | "MatMul"
            | "BatchNormalization"
            | "InstanceNormalization"
            | "PRelu"
            | "LayerNormalization"
            | "GroupNormalization"
            | "Add"
            | "Mul"
    )
}

fn is_quantized(op_type: &str) -> bool {
    matches!(
        op_type,
        "QLinearConv"
            | "QLinearMatMul"
            | "QGemm"
            | "ConvInteger"
            | "MatMulInteger"
            | "MatMulIntegerToFloat"
            | "DynamicQuantizeMatMul"
    )
}

/// A weight's name without what tools that quantize add to it.
fn without_kind(name: &str) -> &str {
    const KINDS: [&str; 3] = ["_DequantizeLinear_Output", "_dequantized", "_quantized"];
    KINDS.iter().find_map(|kind| name.strip_suffix(kind)).unwrap_or(name)
}

/// The module that PyTorch's newer exporter says the node belongs to, as a list in Python's notation:
/// `['', 'features', 'features.norm0', 'batch_norm_3']`, the last being the call.
fn from_scopes(node: &proto::Node) -> Option<String> {
    let scopes = node.metadata_props.iter().find(|p| p.key == "pkg.torch.onnx.name_scopes")?;
    let names: Vec<&str> = scopes.value.split('\'').skip(1).step_by(2).collect();
    let [.., module, call] = names[..] else { return None };
    match (module.is_empty(), has_weights(&node.op_type)) {
        (true, _) => None,
        (false, true) => Some(module.to_string()),
        (false, false) => Some(format!("{module}.{call}")),
    }
}

/// The layer that a weight belongs to, where its name says so.
fn owner(weight: &str) -> Option<String> {
    // `onnx::Conv_193` is a number that the exporter gave.
    if weight.contains("::") {
        return None;
    }
    let weight = without_kind(weight.strip_suffix(":0").unwrap_or(weight));
    ROLES.iter().find_map(|role| {
        let rest = weight.strip_suffix(role)?;
        let owner = rest.strip_suffix(['.', '/', '_'])?;
        let owner = if weight.contains('/') { without_noise(owner) } else { owner.to_string() };
        (!owner.is_empty()).then_some(owner)
    })
}

/// A weight that is a layer by itself: `features.1.0.layer_scale`, multiplied. What modules call
/// `weight` or `bias` is a part of theirs.
fn whole(weight: &str, op_type: &str) -> Option<String> {
    let is_path = weight.contains('.') && !weight.contains([':', '/']);
    let is_part = weight.ends_with(".weight") || weight.ends_with(".bias");
    (matches!(op_type, "Add" | "Mul") && is_path && !is_part).then(|| weight.to_string())
}

fn without_noise(path: &str) -> String {
    let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty() && !NOISE.contains(p)).collect();
    parts.join("/")
}

/// `/layer1/layer1.0/conv1/Conv` → `layer1.0.conv1`: modules' paths, each part with its parents' names
/// before it or without, then the operator.
fn from_path(name: &str, op_type: &str) -> Option<String> {
    if name.is_empty() {
        return None;
    }
    if let Some(layer) = of_tflite(name) {
        return Some(layer);
    }
    if !name.starts_with('/') {
        let cleaned = without_noise(name);
        return Some(if cleaned.is_empty() { name.to_string() } else { cleaned });
    }
    let parts: Vec<&str> = name.split('/').filter(|p| !p.is_empty()).collect();
    let (last, modules) = parts.split_last()?;
    let mut path: Vec<&str> = vec![];
    for module in modules {
        // A module in a list is called by the list's name and its number.
        let own: Vec<&str> = module.split('.').collect();
        let shared = (0..own.len().min(path.len() + 1)).rev().find(|&n| path.ends_with(&own[..n])).unwrap_or(0);
        path.extend(&own[shared..]);
    }
    let path = path.join(".");
    // `Relu_1` is the module's second ReLU, a `Conv` the module itself.
    let last = without_tool(last);
    let own = last.strip_prefix(op_type).or_else(|| last.strip_prefix(of_standard(op_type))).unwrap_or(last);
    match (path.is_empty(), own.is_empty()) {
        (true, _) => Some(last.to_lowercase()),
        (false, true) => Some(path),
        (false, false) => Some(format!("{path}.{}", last.to_lowercase())),
    }
}

/// `net/conv2d/Relu;net/conv2d/convolution_prequant` → `net/conv2d`: TensorFlow Lite calls what it made one of several
/// operations by all their names, and its converter what is rounded afterwards `prequant`.
fn of_tflite(name: &str) -> Option<String> {
    let (joined, rounded) = (name.split_once(';').map(|(first, _)| first), name.strip_suffix("_prequant"));
    let first = joined.or(rounded)?;
    let (layer, _operation) = first.rsplit_once('/')?;
    let layer = without_noise(layer);
    (!layer.is_empty()).then_some(layer)
}

/// A graph's name as an identifier.
pub(crate) fn graph(name: &str) -> String {
    let mut out: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    out = out.trim_matches('_').to_lowercase();
    if out.starts_with(|c: char| c.is_ascii_digit()) {
        out.insert(0, 'v');
    }
    if out.is_empty() || out == "main_graph" { "network".into() } else { cut(&out) }
}

/// The name of an input or output, which callers use: as the model has it, without what no text shows.
pub(crate) fn port(name: &str) -> String {
    let name = cut(name);
    if name.is_empty() { "value".into() } else { name }
}

fn cut(name: &str) -> String {
    let clean: String =
        name.chars().filter(|&c| !is_hidden(c) && !matches!(c, '\n' | '\t' | '"' | '\\' | '{' | '}')).collect();
    let end = (0..=MAX_LENGTH.min(clean.len())).rev().find(|&end| clean.is_char_boundary(end)).unwrap_or(0);
    clean[..end].to_string()
}

/// The name, with a number behind it where it is taken.
pub(crate) fn unique(name: &str, taken: &mut HashSet<String>) -> String {
    let base = if name.is_empty() { "value" } else { name };
    let numbered = |number: usize| format!("{base}_{number}");
    let unique = match taken.contains(base) {
        true => numbered(free_number(|number| taken.contains(&numbered(number)))),
        false => base.to_string(),
    };
    taken.insert(unique.clone());
    unique
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, op_type: &str) -> proto::Node {
        proto::Node { name: name.into(), op_type: op_type.into(), ..Default::default() }
    }

    #[test]
    fn weights_name_layers() {
        let named = |name: &str| label(&node("/a/Conv", "Conv"), &[None, Some(Weight { name, uses: 1 })]).text;
        assert_eq!(named("layer1.0.conv1.weight"), "layer1.0.conv1");
        assert_eq!(named("conv1_w_0"), "conv1");
        assert_eq!(named("resnetv17_conv0_weight"), "resnetv17_conv0");
        assert_eq!(named("StatefulPartitionedCall/model/conv1/kernel:0"), "conv1");
        assert_eq!(named("onnx::Conv_193"), "a");
        let multiplied = |name: &str| label(&node("/a/Mul", "Mul"), &[None, Some(Weight { name, uses: 1 })]).text;
        assert_eq!(multiplied("stages.0.blocks.0.gamma"), "stages.0.blocks.0.gamma");
        assert_eq!(multiplied("blocks.0.norm1.weight"), "blocks.0.norm1");
        assert_eq!(multiplied("bn/gamma"), "bn");
    }

    /// Untrained batch norms are all equal, and exported once.
    #[test]
    fn modules_name_layers_whose_weights_are_shared() {
        let mut norm = node("node_batch_norm_3", "BatchNormalization");
        let shared = [None, Some(Weight { name: "layer1.0.bn1.weight", uses: 9 })];
        assert_eq!(label(&norm, &shared).text, "layer1.0.bn1");
        let value = "['', 'layer2', 'layer2.0', 'layer2.0.bn2', 'batch_norm_3']".into();
        norm.metadata_props = vec![proto::StringPair { key: "pkg.torch.onnx.name_scopes".into(), value }];
        assert_eq!(label(&norm, &shared).text, "layer2.0.bn2");
        norm.op_type = "Relu".into();
        assert_eq!(label(&norm, &[]).text, "layer2.0.bn2.batch_norm_3");
        norm.metadata_props[0].value = "['".into();
        assert_eq!(label(&norm, &[]).text, "node_batch_norm_3");
    }

    #[test]
    fn paths_name_the_rest() {
        let named = |name: &str, op: &str| label(&node(name, op), &[]).text;
        assert_eq!(named("/layer1/layer1.0/conv1/Conv", "Conv"), "layer1.0.conv1");
        assert_eq!(named("/layer1/layer1.0/relu_1/Relu", "Relu"), "layer1.0.relu_1");
        assert_eq!(named("/layer2/layer2.0/downsample/downsample.0/Conv", "Conv"), "layer2.0.downsample.0");
        assert_eq!(named("/features/features.1/conv/conv.0/conv.0.0/Conv", "Conv"), "features.1.conv.0.0");
        assert_eq!(named("/block/block/Conv", "Conv"), "block.block");
        assert_eq!(named("/features/features.3/Relu_2", "Relu"), "features.3.relu_2");
        assert_eq!(named("/Flatten", "Flatten"), "flatten");
        assert_eq!(named("/layer1/conv1/Conv_quant", "ConvInteger"), "layer1.conv1");
        assert_eq!(named("/layer1/conv1/Conv_quant", "QLinearConv"), "layer1.conv1");
        assert_eq!(named("/layer1/fc/MatMul_Q4", "MatMulNBits"), "layer1.fc");
        assert_eq!(named("node_conv2d_1", "Conv"), "node_conv2d_1");
        assert_eq!(named("net/conv2d_1/Relu;net/conv2d_1/convolution_prequant", "Conv"), "net/conv2d_1");
        assert_eq!(named("net/add_1/Add_prequant", "Add"), "net/add_1");
        assert_eq!(named("PartitionedCall:0_prequant", "Add"), "PartitionedCall:0_prequant");
        assert_eq!(named("", "Conv"), "conv");
        assert_eq!(named("a\"{b}\n", "Conv"), "ab");
    }

    #[test]
    fn counted_operators_are_no_names() {
        let made_up = |name: &str, op: &str| label(&node(name, op), &[]).is_made_up;
        for name in ["", "Conv_12", "conv", "/Conv_3", "193", "node_conv2d_1", "node_Conv_7"] {
            assert!(made_up(name, "Conv"), "{name}");
        }
        for name in ["/layer1/layer1.0/conv1/Conv", "stem", "conv_a", "/body/Conv_3", "net/conv2d_1"] {
            assert!(!made_up(name, "Conv"), "{name}");
        }
        // The name of a module that somebody called so.
        let weight = Weight { name: "conv_1.weight", uses: 1 };
        assert!(!label(&node("", "Conv"), &[None, Some(weight)]).is_made_up);
    }

    #[test]
    fn graphs_become_identifiers_and_ports_stay() {
        assert_eq!(["Net", "495", "x.1", "/", "main_graph"].map(graph), ["net", "v495", "x_1", "network", "network"]);
        assert_eq!(["input:0", "495", "a/b", "", "a\n\"b\""].map(port), ["input:0", "495", "a/b", "value", "ab"]);
        let mut taken = HashSet::new();
        assert_eq!(["a", "a", "", "a"].map(|n| unique(n, &mut taken)), ["a", "a_2", "value", "a_3"]);
    }
}
