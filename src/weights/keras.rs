//! What Keras writes of a model's weights: `.weights.h5` and `.keras` (since Keras 3), and `.h5` (all versions).
//!
//! Names become those that a text would give: of the layer `stem`, `stem.weight` and `stem.bias`; a layer within a model
//! within the model is `feat.conv`. The layers of a functional or sequential model go by the names that they have there,
//! parts of a subclass by those of its attributes.
//!
//! Keras has channels last, netc has them first, so that axes change places:
//!
//! | of | Keras | netc |
//! |---|---|---|
//! | convolution, transposed or not | `kernel [H, W, I, O]`, of a transposed one `[H, W, O, I]` | `weight [O, I, H, W]`, `[I, O, H, W]` |
//! | depthwise convolution | `[H, W, C, M]` | `weight [C · M, 1, H, W]` |
//! | separable convolution | `depthwise_kernel`, `pointwise_kernel`, `bias` | `depthwise.weight`, `pointwise.weight`, `pointwise.bias` |
//! | dense layer | `kernel [I, O]` | `weight [O, I]` |
//! | norms | `gamma`, `beta`, `moving_mean`, `moving_variance` | `weight`, `bias`, `running_mean`, `running_var` |
//! | recurrent layer | `kernel [I, G · H]`, `recurrent_kernel`, `bias` | `weight_ih_l0`, `weight_hh_l0`, `bias_ih_l0`, `bias_hh_l0` |
//!
//! Gates of an LSTM stand in the same order; a GRU has update, reset, new there and reset, update, new here. A norm that
//! Keras keeps without `gamma`, or without `beta`, has ones or zeros there. The order of features that images become when
//! they are flattened is the graph's business: `driver::channels_last`.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::Value;

use super::entries::{Buffer, Entry};
use super::hdf5::{self, Placed, Tree, joined};
use crate::archive::Archive;
use crate::tensor::Shape;

/// The members of a `.keras` archive that hold weights, and what the model is.
const WEIGHTS_MEMBER: &str = "model.weights.h5";
const CONFIG_MEMBER: &str = "config.json";
/// Groups that hold layers by their classes' names; the layers' own stand at their variables.
const CONTAINERS: [&str; 2] = ["layers", "_layer_checkpoint_dependencies"];
/// What training keeps beside the weights.
const OF_TRAINING: [&str; 2] = ["optimizer", "optimizer_weights"];
/// Where Keras before 3, and its `.h5` since, has the weights of a whole model.
const WHOLE_MODEL: &str = "model_weights";

/// Weights as read.
pub(super) struct Read {
    pub entries: Vec<Entry>,
    /// Whether images have their channels last.
    pub channels_last: bool,
}

/// Whether an archive is a model that Keras wrote.
pub(super) fn is_archive(archive: &Archive) -> bool {
    archive.names().any(|name| name == WEIGHTS_MEMBER)
}

/// The weights of a `.keras` archive.
pub(super) fn parse_archive(archive: &mut Archive, memory: Option<u64>) -> Result<Read, String> {
    let has_config = archive.names().any(|name| name == CONFIG_MEMBER);
    let config = has_config.then(|| archive.member(CONFIG_MEMBER)).transpose()?;
    let config = config.map(|(buffer, range)| Config::read(&(*buffer).as_ref()[range])).unwrap_or_default();
    let (buffer, range) = archive.member(WEIGHTS_MEMBER)?;
    let file: Buffer = Arc::new(Part { buffer, range });
    let tree = hdf5::parse(&file, memory).map_err(|message| format!("{WEIGHTS_MEMBER}: {message}"))?;
    Ok(of_tree(tree, &config))
}

/// The weights of an HDF5 file. One that Keras did not write has its datasets by their paths, with dots.
pub(super) fn parse(file: &Buffer, memory: Option<u64>) -> Result<Read, String> {
    let tree = hdf5::parse(file, memory)?;
    let config = tree.config.as_ref().map(|text| Config::read(text.as_bytes())).unwrap_or_default();
    Ok(of_tree(tree, &config))
}

/// A member of an archive as a file of its own.
struct Part {
    buffer: Buffer,
    range: std::ops::Range<usize>,
}

impl AsRef<[u8]> for Part {
    fn as_ref(&self) -> &[u8] {
        &(*self.buffer).as_ref()[self.range.clone()]
    }
}

/// What a model's configuration says of its layers, by their names. Of what cannot be read nothing is known.
#[derive(Default)]
struct Config {
    layers: HashMap<String, Layer>,
    channels_first: bool,
}

struct Layer {
    class: String,
    scale: bool,
    center: bool,
}

impl Config {
    fn read(text: &[u8]) -> Self {
        let mut config = Self::default();
        if let Ok(value) = serde_json::from_slice::<Value>(text) {
            config.walk(&value);
        }
        config
    }

    fn walk(&mut self, value: &Value) {
        match value {
            Value::Array(values) => values.iter().for_each(|value| self.walk(value)),
            Value::Object(object) => {
                let inner = object.get("config");
                let text = |value: Option<&Value>| value.and_then(Value::as_str).map(String::from);
                let name = inner.and_then(|inner| text(inner.get("name")));
                if let (Some(class), Some(name), Some(inner)) = (text(object.get("class_name")), name, inner) {
                    let flag = |key: &str| inner.get(key).and_then(Value::as_bool).unwrap_or(true);
                    let layer = Layer { class: words_of(&class), scale: flag("scale"), center: flag("center") };
                    self.layers.insert(name, layer);
                    self.channels_first |= text(inner.get("data_format")).as_deref() == Some("channels_first");
                }
                object.values().for_each(|value| self.walk(value));
            }
            _ => {}
        }
    }
}

/// A class's name as Keras has it in paths: `Conv2DTranspose` is `conv2d_transpose`.
fn words_of(class: &str) -> String {
    let letters: Vec<char> = class.chars().collect();
    let mut words = String::new();
    for (i, &c) in letters.iter().enumerate() {
        let follows_small = i > 0 && letters[i - 1].is_ascii_lowercase();
        let begins_word =
            i > 0 && letters[i - 1].is_ascii_alphanumeric() && letters.get(i + 1).is_some_and(char::is_ascii_lowercase);
        if c.is_ascii_uppercase() && (follows_small || begins_word) {
            words.push('_');
        }
        words.push(c.to_ascii_lowercase());
    }
    words
}

/// The variables of a layer, by Keras's names for them.
#[derive(Default)]
struct Variables {
    /// In words, where it is known.
    class: String,
    all: BTreeMap<String, Entry>,
}

fn of_tree(tree: Tree, config: &Config) -> Read {
    let Tree { datasets, names, .. } = tree;
    // Variables by number, of a layer each; variables by name; and what is none of Keras's.
    let mut numbered: BTreeMap<Vec<String>, Vec<(usize, Entry)>> = BTreeMap::new();
    let mut layers: BTreeMap<String, Variables> = BTreeMap::new();
    let mut others = vec![];
    for Placed { groups, entry } in datasets {
        let first = groups.first().map(String::as_str).unwrap_or_default();
        if OF_TRAINING.contains(&first) || groups.iter().any(|group| group.contains("seed_generator")) {
            continue;
        }
        match (groups.split_last(), entry.name.parse::<usize>()) {
            (Some((last, layer)), Ok(number)) if last == "vars" => {
                numbered.entry(layer.to_vec()).or_default().push((number, entry));
            }
            _ => match label_of_named(&groups, &entry.name) {
                Some((label, variable)) => {
                    let class = groups.iter().rev().find_map(|name| config.layers.get(name));
                    let layer = layers.entry(label).or_default();
                    layer.class = class.map(|layer| layer.class.clone()).unwrap_or_default();
                    layer.all.insert(variable, entry);
                }
                None => others.push(Entry { name: joined(&groups, &entry.name).replace('/', "."), ..entry }),
            },
        }
    }
    for (path, mut variables) in numbered {
        variables.sort_by_key(|(number, _)| *number);
        let class = path.last().map(|name| without_number(name)).unwrap_or_default();
        let layer_name = names.get(&[path.as_slice(), &["vars".into()]].concat());
        let known = layer_name.and_then(|name| config.layers.get(name));
        let class = known.map_or_else(|| class.to_string(), |layer| layer.class.clone());
        let entries: Vec<Entry> = variables.into_iter().map(|(_, entry)| entry).collect();
        let words = names_of_variables(&class, &entries, known);
        let all = words.into_iter().zip(entries).collect();
        layers.insert(label_of_numbered(&path, &names), Variables { class, all });
    }
    let mut entries: Vec<Entry> = layers.into_iter().flat_map(|(label, layer)| translated(&label, layer)).collect();
    entries.append(&mut others);
    Read { entries, channels_last: !config.channels_first }
}

/// `conv2d_12` without its number.
fn without_number(name: &str) -> &str {
    match name.rsplit_once('_') {
        Some((word, number)) if !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()) => word,
        _ => name,
    }
}

/// Layers of models by the names that stand at their variables, parts of others by the groups' names.
fn label_of_numbered(path: &[String], names: &HashMap<Vec<String>, String>) -> String {
    let mut parts = vec![];
    for (i, group) in path.iter().enumerate() {
        let is_container = |group: &String| CONTAINERS.contains(&group.as_str());
        if is_container(group) {
            continue;
        }
        let own = names.get(&[&path[..=i], &["vars".into()]].concat());
        let is_layer = i > 0 && is_container(&path[i - 1]);
        parts.push(own.filter(|_| is_layer).unwrap_or(group).as_str());
    }
    // A variable of the model itself.
    parts.join(".")
}

/// The variables that Keras numbers, by the class of their layer or else by their shapes.
fn names_of_variables(class: &str, entries: &[Entry], known: Option<&Layer>) -> Vec<String> {
    let ranks: Vec<usize> = entries.iter().map(|entry| entry.shape.rank()).collect();
    let last = |i: usize| entries[i].shape.dims().last().copied().unwrap_or(0);
    let equal = |count: usize| {
        ranks.len() == count && ranks.iter().all(|&rank| rank == 1) && (1..count).all(|i| last(i) == last(0))
    };
    let moments = ["moving_mean", "moving_variance"];
    let words: &[&str] = match (class, entries.len()) {
        ("batch_normalization", 3) => match known {
            Some(Layer { scale: false, .. }) => &["beta", moments[0], moments[1]],
            Some(Layer { center: false, .. }) => &["gamma", moments[0], moments[1]],
            // Nothing tells which of both it is.
            _ => &["vars.0", moments[0], moments[1]],
        },
        ("batch_normalization", 2) => &moments,
        ("normalization", _) => &["mean", "variance", "count"],
        ("embedding", _) => &["embeddings"],
        ("p_re_lu", _) => &["alpha"],
        (class, 1) if class.ends_with("_normalization") && known.is_some_and(|layer| !layer.scale) => &["beta"],
        (class, 1) if class.ends_with("_normalization") && known.is_some_and(|layer| !layer.center) => &["gamma"],
        _ if equal(4) => &["gamma", "beta", moments[0], moments[1]],
        _ if equal(2) => &["gamma", "beta"],
        (class, _) if class.starts_with("depthwise") => &["depthwise_kernel", "bias"],
        (class, _) if class.starts_with("separable") => &["depthwise_kernel", "pointwise_kernel", "bias"],
        _ if ranks.len() >= 2 && ranks[..2] == [2, 2] && last(0) == last(1) => &["kernel", "recurrent_kernel", "bias"],
        _ if ranks.first().is_some_and(|&rank| rank >= 2) && ranks.len() <= 2 && ranks[1..].iter().all(|&r| r == 1) => {
            &["kernel", "bias"]
        }
        _ => &[],
    };
    (0..entries.len()).map(|i| words.get(i).map_or_else(|| format!("vars.{i}"), |word| word.to_string())).collect()
}

/// Label and variable of a dataset that an `.h5` file has by name, such as
/// `model_weights/fc1/sequential/fc1/kernel:0`; `None` where nothing says that Keras wrote it.
fn label_of_named(groups: &[String], dataset: &str) -> Option<(String, String)> {
    const VARIABLES: [&str; 11] = [
        "kernel",
        "bias",
        "gamma",
        "beta",
        "moving_mean",
        "moving_variance",
        "depthwise_kernel",
        "pointwise_kernel",
        "recurrent_kernel",
        "alpha",
        "embeddings",
    ];
    let is_whole = groups.first().is_some_and(|first| first == WHOLE_MODEL);
    let groups = &groups[usize::from(is_whole)..];
    let numbered = dataset.strip_suffix(":0");
    let variable = numbered.unwrap_or(dataset);
    let (layer, inner) = groups.split_first()?;
    if !is_whole && numbered.is_none() && !(VARIABLES.contains(&variable) && inner.contains(layer)) {
        return None;
    }
    // The layer's name again, maybe within the model's, and then what lies within the layer.
    let within = inner.iter().position(|name| name == layer).map_or(inner, |at| &inner[at + 1..]);
    let parts = [layer].into_iter().chain(within).map(String::as_str);
    Some((parts.collect::<Vec<_>>().join("."), variable.to_string()))
}

/// A layer's variables under netc's names, with netc's order of axes.
fn translated(label: &str, layer: Variables) -> Vec<Entry> {
    let named = |role: &str| if label.is_empty() { role.to_string() } else { format!("{label}.{role}") };
    let Variables { class, mut all } = layer;
    if all.contains_key("kernel") && all.contains_key("recurrent_kernel") {
        return match recurrent(label, &all) {
            Some(entries) => entries,
            None => all.into_iter().map(|(name, entry)| Entry { name: named(&name), ..entry }).collect(),
        };
    }
    let is_separable = all.contains_key("pointwise_kernel");
    // The bias of a depthwise convolution has as many numbers as there are channels and multiples of them.
    let depthwise = |kernel: &Entry, bias: Option<&Entry>| {
        let [.., channels, multiples] = *kernel.shape.dims() else { return false };
        class.starts_with("depthwise")
            || bias
                .is_some_and(|bias| multiples != channels * multiples && bias.shape.elements() == channels * multiples)
    };
    let is_depthwise = all.get("kernel").is_some_and(|kernel| depthwise(kernel, all.get("bias")));
    let (gamma, beta) = (all.get("gamma").cloned(), all.get("beta").cloned());
    let only = match (gamma, beta) {
        (Some(gamma), None) => Some(("beta", 0.0, gamma.shape)),
        (None, Some(beta)) => Some(("gamma", 1.0, beta.shape)),
        _ => None,
    };
    if let Some((other, value, shape)) = only {
        let values = vec![value; shape.elements()];
        all.insert(other.into(), Entry::of(other.into(), shape, Arc::new(values)));
    }
    let entry = |(variable, entry): (String, Entry)| {
        let role = match variable.as_str() {
            "depthwise_kernel" if is_separable => "depthwise.weight",
            "pointwise_kernel" => "pointwise.weight",
            "bias" if is_separable => "pointwise.bias",
            "kernel" | "depthwise_kernel" | "gamma" | "alpha" | "embeddings" => "weight",
            "bias" | "beta" => "bias",
            "moving_mean" => "running_mean",
            "moving_variance" => "running_var",
            other => other,
        };
        let entry = match variable.as_str() {
            "depthwise_kernel" => depthwise_weight(entry),
            "kernel" if is_depthwise => depthwise_weight(entry),
            "kernel" | "pointwise_kernel" => reversed(entry),
            _ => entry,
        };
        Entry { name: named(role), ..entry }
    };
    all.into_iter().map(entry).collect()
}

/// `[…, I, O]` as `[O, I, …]`: outputs first, then inputs, then what slides, in its order.
fn reversed(entry: Entry) -> Entry {
    let dims = entry.shape.dims().to_vec();
    let [space @ .., inputs, outputs] = &dims[..] else { return entry };
    let mut strides = vec![1, *outputs];
    strides.extend(row_major(space).iter().map(|stride| stride * inputs * outputs));
    let shape = Shape::new([&[*outputs, *inputs], space].concat());
    Entry { shape, strides: Some(strides), ..entry }
}

/// `[…, C, M]` as `[C · M, 1, …]`.
fn depthwise_weight(entry: Entry) -> Entry {
    let dims = entry.shape.dims().to_vec();
    let [space @ .., channels, multiples] = &dims[..] else { return entry };
    let all = channels * multiples;
    let mut strides = vec![1, 1];
    strides.extend(row_major(space).iter().map(|stride| stride * all));
    let shape = Shape::new([&[all, 1], space].concat());
    Entry { shape, strides: Some(strides), ..entry }
}

fn row_major(dims: &[usize]) -> Vec<usize> {
    (0..dims.len()).map(|axis| dims[axis + 1..].iter().product()).collect()
}

/// The weights of a recurrent layer of one direction. `None` where the shapes are none of Keras's.
fn recurrent(label: &str, all: &BTreeMap<String, Entry>) -> Option<Vec<Entry>> {
    let (kernel, states) = (&all["kernel"], &all["recurrent_kernel"]);
    let &[hidden, columns] = states.shape.dims() else { return None };
    let &[inputs, same] = kernel.shape.dims() else { return None };
    if hidden == 0 || columns % hidden != 0 || same != columns {
        return None;
    }
    let gates = columns / hidden;
    // Of rows that are for one gate each, those of a GRU's first two change places.
    let in_order = |values: Vec<f32>| match gates {
        3 => {
            let part = values.len() / 3;
            [&values[part..2 * part], &values[..part], &values[2 * part..]].concat()
        }
        _ => values,
    };
    let values = |entry: Entry| Some((*entry.values()?).as_ref().to_vec());
    let mut rows = vec![
        ("weight_ih_l0", vec![columns, inputs], values(reversed(kernel.clone()))?),
        ("weight_hh_l0", vec![columns, hidden], values(reversed(states.clone()))?),
    ];
    if let Some(bias) = all.get("bias") {
        let numbers = values(bias.clone())?;
        let (input, state) = match bias.shape.dims() {
            [n] if *n == columns => (numbers, vec![0.0; columns]),
            [2, n] if *n == columns => (numbers[..columns].to_vec(), numbers[columns..].to_vec()),
            _ => return None,
        };
        rows.push(("bias_ih_l0", vec![columns], input));
        rows.push(("bias_hh_l0", vec![columns], state));
    }
    let (label, suffix) = layer_of_cell(label);
    let named =
        |role: &str| if label.is_empty() { format!("{role}{suffix}") } else { format!("{label}.{role}{suffix}") };
    let entries = rows
        .into_iter()
        .map(|(role, dims, values)| Entry::of(named(role), Shape::new(dims), Arc::new(in_order(values))));
    Some(entries.collect())
}

/// The label of the layer that a cell is of, and what the names of the second direction's weights end in.
fn layer_of_cell(label: &str) -> (String, &'static str) {
    let mut parts: Vec<&str> = label.split('.').collect();
    if parts.last().is_some_and(|last| *last == "cell" || without_number(last).ends_with("_cell")) {
        parts.pop();
    }
    let direction = parts.last().map_or("", |last| match last {
        last if last.starts_with("forward_") => "forward",
        last if last.starts_with("backward_") => "backward",
        _ => "",
    });
    if !direction.is_empty() {
        parts.pop();
    }
    (parts.join("."), if direction == "backward" { "_reverse" } else { "" })
}
