//! Names that a person would give: to modules by what they are, to parameters by what they set, and to
//! repeated parts of networks whose own names say nothing.

use std::collections::HashSet;

use super::modules::Module;
use super::parts::{Part, Slot};
use super::structure::Join;
use super::words;
use crate::interop::free_number;
use crate::ops::layer::Value;

/// The name, with a number behind it where it is taken.
pub(crate) fn unique(name: &str, taken: &mut HashSet<String>) -> String {
    // Behind a digit, a number would be read as part of it.
    let ends_in_digit = name.ends_with(|c: char| c.is_ascii_digit());
    let letters = ('b'..='z').filter(|_| ends_in_digit).map(|letter| format!("{name}{letter}"));
    let few = [name.to_string()].into_iter().chain(letters).find(|n| !taken.contains(n));
    let numbered = |n: usize| if ends_in_digit { format!("{name}_{n}") } else { format!("{name}{n}") };
    let unique = few.unwrap_or_else(|| numbered(free_number(|n| taken.contains(&numbered(n)))));
    taken.insert(unique.clone());
    unique
}

// ---- Modules -----------------------------------------------------------------------------------

/// The module whose width is one of its own.
const SQUEEZE: &str = "squeeze_excitation";

/// A layer as far as names depend on it.
#[derive(Clone, Debug, PartialEq)]
struct Trait {
    layer: &'static str,
    kernel: Option<Value>,
    depthwise: bool,
}

impl Trait {
    fn is_conv(&self, kernel: i64) -> bool {
        self.layer == "conv" && self.kernel == Some(Value::Int(kernel))
    }
}

/// A module's name and what it is, from its statements; where these tell nothing, from what its uses are called.
pub(crate) fn describe(parts: &[Part], modules: &[Module], uses: &[&[String]]) -> (String, String) {
    let (name, doc) = kind(parts, modules);
    let is_layer = |name: &str| crate::ops::layers().any(|l| l.name == name);
    let name = match common_word(uses).filter(|_| name == BLOCK) {
        Some(word) if is_layer(word) => format!("{word}_{BLOCK}"),
        Some(word) => word.to_string(),
        None => name,
    };
    let mut taken: HashSet<String> = modules.iter().map(|m| m.name.clone()).collect();
    taken.extend(crate::ops::layers().map(|l| l.name.to_string()));
    // A second kind of block is the same but for something: `inception`, `inception_b`, `inception_c`.
    let mut unique = name.clone();
    let mut letters = ('b'..='z').map(String::from).chain((2..).map(|n: usize| n.to_string()));
    while taken.contains(&unique) {
        unique = format!("{name}_{}", letters.next().expect("numbers do not end"));
    }
    (unique, doc)
}

/// What statements are called that are nothing in particular.
const BLOCK: &str = "block";

/// The word with which all labels end, but for numbers: `gru` of `gru`, `gru_2` and `up.gru`.
fn common_word<'u>(labels: &[&'u [String]]) -> Option<&'u str> {
    let word = |label: &&'u [String]| {
        let word = label.last()?.trim_end_matches(|c: char| c.is_ascii_digit() || c == '_');
        (words::is_free(word) && word.len() <= words::LONGEST / 2).then_some(word)
    };
    let mut all = labels.iter().map(word);
    let first = all.next()??;
    all.all(|other| other == Some(first)).then_some(first)
}

fn kind(parts: &[Part], modules: &[Module]) -> (String, String) {
    let all = traits(parts, modules);
    let convs: Vec<&Trait> = all.iter().filter(|t| t.layer == "conv").collect();
    let depthwise = convs.iter().any(|t| t.depthwise);
    let mut joins = parts
        .iter()
        .filter_map(|p| if let Part::Join { kind, branches, .. } = p { Some((*kind, branches)) } else { None });
    let (join, others) = (joins.next(), joins.next().is_some());
    let named = |name: &str, doc: &str| (name.to_string(), doc.to_string());
    if all.iter().any(|t| t.layer == "channel_shuffle") {
        return named("shuffle_unit", "Two ways side by side, whose channels are mixed for the next.");
    }
    if goes_up(parts) {
        return named("up_block", "Enlarged, put beside a value from before, and convolved.");
    }
    match join {
        Some(_) if others => named(BLOCK, "Layers that stand together."),
        Some((Join::Residual, branches)) => {
            let body = traits(&branches[0], modules);
            let convs: Vec<&Trait> = body.iter().filter(|t| t.layer == "conv").collect();
            match convs.as_slice() {
                _ if depthwise => {
                    named("inverted_residual", "Widened, convolved channel by channel, narrowed again, beside a skip.")
                }
                [a, b] if a.is_conv(3) && b.is_conv(3) => named("basic_block", "Two 3x3 convolutions and a skip."),
                [a, b, c] if a.is_conv(1) && b.kernel != a.kernel && c.is_conv(1) => {
                    named("bottleneck", "A convolution between two 1x1 ones, which narrow and widen it, and a skip.")
                }
                _ => named("residual_block", "Layers and a skip."),
            }
        }
        Some((Join::Branches("concat"), branches)) if branches.len() >= 3 => {
            named("inception", "Several views of one input side by side.")
        }
        Some((Join::Branches("concat"), branches)) => {
            let squeezes = matches!(parts.first(), Some(Part::Layer { layer: "conv", .. } | Part::Call { .. }));
            match branches.iter().any(Vec::is_empty) {
                true => named("dense_layer", "Layers whose result stands beside their input."),
                false if squeezes && branches.len() == 2 => {
                    named("fire", "Few channels, then two views of them side by side.")
                }
                false => named("split_block", "Two ways side by side."),
            }
        }
        Some((Join::Branches("mul"), branches)) if branches.iter().any(|b| pools_image(b)) => {
            named(SQUEEZE, "Each channel weighted by what the whole image says.")
        }
        Some((Join::Branches("mul"), _)) => named("gate", "A value weighted by another way."),
        Some(_) => named(BLOCK, "Several ways, joined."),
        None => chain(&all, depthwise),
    }
}

/// Whether statements enlarge an image and put another one beside it, as decoders do.
fn goes_up(parts: &[Part]) -> bool {
    let enlarges = |part: &Part| matches!(part, Part::Layer { layer: "conv_transpose" | "upsample", .. });
    let joins = |part: &Part| matches!(part, Part::Layer { layer: "concat", operands, .. } if !operands.is_empty());
    matches!(parts, [first, rest @ ..] if enlarges(first) && rest.iter().take(3).any(joins))
}

/// Whether one number is left of each channel's image.
fn pools_image(parts: &[Part]) -> bool {
    let is_one = |args: &[(String, Slot)], name: &str| {
        let one = [Value::Int(1), Value::Tuple(vec![Value::Int(1); 2])];
        args.iter().any(|(n, slot)| n == name && one.iter().any(|v| *slot == Slot::Value(v.clone())))
    };
    let image = Slot::Value(Value::List(vec![Value::Int(2), Value::Int(3)]));
    parts.iter().any(|part| match part {
        Part::Layer { layer: "global_avg_pool" | "global_max_pool", .. } => true,
        Part::Layer { layer: "adaptive_avg_pool", args, .. } => is_one(args, "output"),
        Part::Layer { layer: "reduce_mean" | "reduce_max", args, .. } => {
            args.iter().any(|(name, slot)| name == "axes" && *slot == image)
        }
        _ => part.blocks().into_iter().any(|b| pools_image(b)),
    })
}

/// The name of statements without a join: their layers' names, where they are few.
fn chain(all: &[Trait], depthwise: bool) -> (String, String) {
    let convs = all.iter().filter(|t| t.layer == "conv").count();
    let short = |t: &Trait| match t.layer {
        "batch_norm" => "bn".to_string(),
        other => other.to_string(),
    };
    let name = all.iter().map(short).collect::<Vec<_>>().join("_");
    let starts_normal = all.first().is_some_and(|t| t.layer == "batch_norm");
    let doc = match (convs, all.len()) {
        (1, 2..=3) => "A convolution and what follows it.",
        _ if depthwise => "Convolutions channel by channel and over all channels.",
        (1, _) if starts_normal => "Between two parts of the network: other channels, often fewer pixels.",
        _ => "Layers that stand together.",
    };
    let widens = all.iter().find(|t| t.layer == "conv").is_some_and(|t| t.is_conv(1));
    let name = match (convs, depthwise) {
        _ if all.len() <= 3 => name,
        (2.., true) if widens => "inverted_bottleneck".into(),
        (2.., true) => "separable_conv".into(),
        (2, false) if starts_normal => "dense_layer".into(),
        (1, false) if starts_normal => "transition".into(),
        (2, false) => "double_conv".into(),
        _ => BLOCK.into(),
    };
    (name, doc.into())
}

fn traits(parts: &[Part], modules: &[Module]) -> Vec<Trait> {
    let mut all = vec![];
    for part in parts {
        match part {
            Part::Layer { layer, args, .. } => {
                let arg = |name: &str| args.iter().find(|(n, _)| n == name).map(|(_, s)| s);
                let kernel = arg("kernel").and_then(|s| if let Slot::Value(v) = s { Some(v.clone()) } else { None });
                let depthwise = *layer == "conv" && arg("groups").is_some() && arg("groups") == arg("channels");
                all.push(Trait { layer, kernel, depthwise });
            }
            Part::Call { module, args, .. } => {
                if modules.get(*module).is_some_and(|m| m.name.starts_with(SQUEEZE)) {
                    // Its 1x1 convolutions see vectors, and say nothing of the block around.
                    all.push(Trait { layer: SQUEEZE, kernel: None, depthwise: false });
                    continue;
                }
                // A module's own layers, with this call's kernel where it has one.
                let kernel = args.iter().find(|(n, _)| n.contains("kernel"));
                let kernel = kernel.and_then(|(_, s)| if let Slot::Value(v) = s { Some(v.clone()) } else { None });
                let arg = |name: &str| args.iter().find(|(n, _)| n == name).map(|(_, s)| s);
                let depthwise = arg("groups").is_some() && arg("groups") == arg("channels");
                for mut inner in traits(&modules[*module].body, modules) {
                    inner.kernel = inner.kernel.or(kernel.clone());
                    inner.depthwise |= depthwise && inner.layer == "conv";
                    all.push(inner);
                }
            }
            _ => part.blocks().into_iter().for_each(|b| all.extend(traits(b, modules))),
        }
    }
    all
}

// ---- Parameters --------------------------------------------------------------------------------

/// What a parameter for an argument would be called. Of several widths in one module, that of an
/// inception's branch is called as in the paper: `c3`, `r3` where it narrows before a 3x3, `proj`
/// behind a pool.
pub(crate) fn parameter(arg: &str, block: &[Part], index: usize, branch: Option<usize>, modules: &[Module]) -> String {
    let is_width = matches!(arg, "channels" | "features");
    if let Part::Call { module, .. } = &block[index]
        && is_width
        && modules[*module].name.starts_with(SQUEEZE)
    {
        return "squeezed".into();
    }
    let Some(kernel) = kernel_of(&block[index], modules).filter(|_| is_width) else { return arg.to_string() };
    let after_pool = index > 0 && matches!(&block[index - 1], Part::Layer { layer, .. } if layer.ends_with("pool"));
    let next = block[index + 1..].iter().find_map(|p| kernel_of(p, modules));
    let narrows_for = next.filter(|&next| kernel == 1 && next != 1);
    let widens =
        traits(&block[index + 1..], modules).into_iter().find(|t| t.layer == "conv").is_some_and(|t| t.depthwise);
    match (branch, narrows_for) {
        (None, Some(_)) if widens => "hidden".into(),
        (None, _) => arg.into(),
        (Some(_), _) if after_pool && kernel == 1 => "proj".into(),
        (Some(_), Some(next)) => format!("r{next}"),
        (Some(_), None) => format!("c{kernel}"),
    }
}

/// The larger side of a convolution's window, or of the widest one in a module.
fn kernel_of(part: &Part, modules: &[Module]) -> Option<i64> {
    let side = |kernel: &Value| match kernel {
        Value::Int(k) => Some(*k),
        Value::Tuple(sides) => sides.iter().filter_map(|s| if let Value::Int(v) = s { Some(*v) } else { None }).max(),
        _ => None,
    };
    let convs = traits(std::slice::from_ref(part), modules);
    convs.iter().filter(|t| t.layer == "conv").filter_map(|t| side(t.kernel.as_ref()?)).max()
}

// ---- Labels --------------------------------------------------------------------------------------

/// What all labels begin with; something of each is left.
pub(crate) fn shared_beginning(labels: &[Vec<String>]) -> Vec<String> {
    let Some((first, rest)) = labels.split_first() else { return vec![] };
    let shared = |other: &Vec<String>| first.iter().zip(other).take_while(|(a, b)| a == b).count();
    let most = labels.iter().map(|l| l.len() - 1).min().unwrap_or(0);
    first[..rest.iter().map(shared).min().unwrap_or(most).min(most)].to_vec()
}

/// The labels of layers and calls.
pub(crate) fn labels_of(parts: &[Part], found: &mut Vec<Vec<String>>) {
    for part in parts {
        match part {
            Part::Layer { label, .. } | Part::Call { label, .. } if !label.is_empty() => found.push(label.clone()),
            _ => part.blocks().into_iter().for_each(|b| labels_of(b, found)),
        }
    }
}
