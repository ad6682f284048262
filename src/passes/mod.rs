//! Rewrites of a graph for inference: one pass a file, the pipeline as a table.
//!
//! A pass is a function from an [`Editor`] to nothing: it changes the graph only
//! through it and tells what it did as remarks. Each file's text shows the rewrite before and
//! after, says when it is legal, what it does to the numbers, and why it stands where it stands in
//! [`PIPELINE`]. Passes know graphs, ops and weights; they know no layout, no plan and no target.
//!
//! Every pass is tested as text before and after, by the interpreter on both, and on random graphs.

mod affine;
mod collapse_pointwise_chain;
mod commute_pointwise_pool;
mod compose_scales;
mod constant_folding;
mod cse;
mod dead_code;
mod exchange_activation_pool;
mod fold_batch_norm;
mod fold_input_normalization;
mod fold_space_to_depth;
mod fold_whole_weights;
mod fuse_epilogue;
mod fuse_relu_gradient;
mod join_phases;
mod lower_channel_constants;
mod lower_constants;
mod lower_dynamic_conv;
mod lower_dynamic_quantize;
mod lower_expand_images;
mod lower_quantized;
mod lower_recurrent;
mod lower_sampling;
mod lower_volumes;
mod merge_parallel_convolutions;
mod merge_sibling_pointwise;
mod pattern;
mod recognise_channel_scales;
mod recognise_gate;
mod recognise_gelu;
mod recognise_group_norm;
mod recognise_hard_sigmoid;
mod recognise_layer_norm;
mod recognise_shuffle;
mod remove_aux_heads;
mod remove_dropout;
mod selection;
mod simplify_concat;
mod simplify_pool;
#[cfg(test)]
mod tests;

use crate::ir::{self, Editor, Graph, Remark};
#[cfg(feature = "train")]
pub(crate) use lower_quantized::moves_elements;
pub use selection::Selection;
pub(crate) use selection::UnknownPass;

/// One row of the pipeline.
#[derive(Clone, Copy)]
pub struct Pass {
    pub name: &'static str,
    /// One line for `--help`.
    pub description: &'static str,
    /// Runs unless it is deselected.
    pub default: bool,
    /// Finds a function of the language in operations that spell it out; [`recognise`] runs it by itself, too.
    pub recognises: bool,
    run: fn(&mut Editor),
}

const fn pass(name: &'static str, description: &'static str, run: fn(&mut Editor)) -> Pass {
    Pass { name, description, default: true, recognises: false, run }
}

const fn recogniser(name: &'static str, description: &'static str, run: fn(&mut Editor)) -> Pass {
    Pass { recognises: true, ..pass(name, description, run) }
}

/// The passes in the order in which they run, each once.
pub const PIPELINE: &[Pass] = &[
    pass("remove_aux_heads", "drop auxiliary heads and what only they need", remove_aux_heads::run),
    pass("remove_dropout", "drop dropout and identity", remove_dropout::run),
    pass("dead_code", "drop what no output needs", dead_code::run),
    pass(
        "lower_constants",
        "weights of numbers in the text; what a concat repeats for each image",
        lower_constants::run,
    ),
    pass(
        "lower_channel_constants",
        "weights of the constants that a text gives channels",
        lower_channel_constants::run,
    ),
    pass(
        "lower_dynamic_quantize",
        "arithmetic for grids that the numbers themselves tell",
        lower_dynamic_quantize::run,
    ),
    pass("lower_expand_images", "values that are repeated for each image, for as many", lower_expand_images::run),
    pass("constant_folding", "compute what depends on constants only", constant_folding::run),
    pass("cse", "compute equal values once", cse::run),
    recogniser("recognise_gelu", "gelu, where it is written out", recognise_gelu::run),
    recogniser("recognise_hard_sigmoid", "hard_sigmoid, where it is written out", recognise_hard_sigmoid::run),
    recogniser("recognise_gate", "silu and hard_swish, where they are written out", recognise_gate::run),
    recogniser("compose_scales", "one constant factor and term for several", compose_scales::run),
    recogniser("recognise_channel_scales", "scale, where its channels are cut apart", recognise_channel_scales::run),
    recogniser("recognise_layer_norm", "layer_norm, where it is written out", recognise_layer_norm::run),
    recogniser("recognise_group_norm", "group_norm, where it is written out", recognise_group_norm::run),
    recogniser("recognise_shuffle", "shuffles, where they are written out", recognise_shuffle::run),
    pass("simplify_concat", "flatten nested concats and slices", simplify_concat::run),
    pass("simplify_pool", "adaptive pools as plain ones, where sizes divide", simplify_pool::run),
    pass("lower_recurrent", "recurrent layers as products over all steps, and the steps", lower_recurrent::run),
    pass("lower_sampling", "deformable convolutions and regions as samples of images", lower_sampling::run),
    pass("lower_volumes", "layers of sequences and volumes as layers of images", lower_volumes::run),
    pass("lower_dynamic_conv", "weights that are computed as parameters of a convolution", lower_dynamic_conv::run),
    pass("lower_quantized", "compute what is on grids in whole numbers", lower_quantized::run),
    pass("fold_whole_weights", "f32 for weights of 8 bits that no layer multiplies as such", fold_whole_weights::run),
    Pass {
        name: "fold_input_normalization",
        description: "fold the input's normalization into the first convolution, where exact",
        default: false,
        recognises: false,
        run: fold_input_normalization::run,
    },
    pass("fold_batch_norm", "fold batch norms and scales into the layer before", fold_batch_norm::run),
    pass(
        "merge_parallel_convolutions",
        "one convolution for several of one value that are added",
        merge_parallel_convolutions::run,
    ),
    pass(
        "fold_space_to_depth",
        "pixel unshuffles, or the image itself, for convolutions of pixels put into channels",
        fold_space_to_depth::run,
    ),
    pass("collapse_pointwise_chain", "one 1x1 convolution for two, where cheaper", collapse_pointwise_chain::run),
    pass("commute_pointwise_pool", "average before a 1x1 convolution, not after", commute_pointwise_pool::run),
    pass(
        "exchange_activation_pool",
        "activations beside max pools where they cost least",
        exchange_activation_pool::run,
    ),
    pass("fuse_epilogue", "activations and joins into the kernel before", fuse_epilogue::run),
    pass("join_phases", "one convolution for all phases of a transposed one to few channels", join_phases::run),
    pass("merge_sibling_pointwise", "one wide 1x1 convolution for several on one input", merge_sibling_pointwise::run),
];

/// The passes for steps of training, in the pipeline's order: those that neither take weights for known nor drop what
/// only training needs.
const TRAINING: &[&str] = &[
    "dead_code",
    "lower_constants",
    "lower_expand_images",
    "cse",
    "lower_volumes",
    "lower_dynamic_conv",
    "fuse_epilogue",
];

/// Passes that only steps of training need, after those.
const OF_TRAINING: &[Pass] = &[pass(
    "fuse_relu_gradient",
    "the gradient of relu into that of the normalisation before",
    fuse_relu_gradient::run,
)];

/// Runs the passes for steps of training.
pub(crate) fn run_training(graph: &mut Graph) -> Vec<Remark> {
    let mut remarks = run_those(graph, PIPELINE, |pass| TRAINING.contains(&pass.name), |_, _| {});
    remarks.extend(run_those(graph, OF_TRAINING, |_| true, |_, _| {}));
    remarks
}

/// Runs the selected passes in the pipeline's order.
pub fn run(graph: &mut Graph, selection: &Selection) -> Vec<Remark> {
    run_observed(graph, selection, |_, _| {})
}

/// As [`run`], and shows the graph after each pass.
///
/// # Panics
/// In debug builds, when a pass leaves a graph that does not verify.
pub(crate) fn run_observed(graph: &mut Graph, selection: &Selection, after: impl FnMut(&Pass, &Graph)) -> Vec<Remark> {
    run_those(graph, PIPELINE, |pass| selection.contains(pass.name), after)
}

/// Finds functions of the language in a graph that spells them out, as programs export theirs. The passes are
/// those of the pipeline that do this; here they run before a graph is written as text.
pub(crate) fn recognise(graph: &mut Graph) -> Vec<Remark> {
    run_those(graph, PIPELINE, |pass| pass.recognises, |_, _| {})
}

fn run_those(
    graph: &mut Graph,
    passes: &[Pass],
    runs: impl Fn(&Pass) -> bool,
    mut after: impl FnMut(&Pass, &Graph),
) -> Vec<Remark> {
    let mut remarks = vec![];
    for pass in passes.iter().filter(|p| runs(p)) {
        let mut editor = Editor::new(graph, pass.name);
        (pass.run)(&mut editor);
        remarks.extend(editor.finish());
        if cfg!(debug_assertions) {
            ir::verify(graph).unwrap_or_else(|e| panic!("after {}: {e:?}\n{graph}", pass.name));
        }
        after(pass, graph);
    }
    remarks
}
