//! The header: what the functions are called, what they take, and how much memory they want.

use std::fmt::Write as _;

use super::names::{distinct, string};
use super::{ALIGNMENT, Bare, entry};
use crate::artifact::Port;
use crate::tensor::Rows;

/// Names of parameters that ports must not have.
const OWN: &[&str] = &["arena", "weights", "parallel_for", "context", "workers", "count", "body", "argument"];

pub(super) fn text(bare: &Bare) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = write(&mut out, bare);
    out
}

fn write(out: &mut String, bare: &Bare) -> std::fmt::Result {
    let manifest = &bare.image.manifest;
    let ports: Vec<&Port> = manifest.inputs.iter().chain(&manifest.outputs).collect();
    let names = distinct(ports.iter().map(|port| port.name.as_str()), OWN);
    let macros = bare.prefix.to_uppercase();
    let features = manifest.features.join(" ");

    writeln!(
        out,
        "/* The network {} as machine code, made by netc {}.",
        string(&manifest.name),
        env!("CARGO_PKG_VERSION")
    )?;
    writeln!(out, " *")?;
    writeln!(
        out,
        " * For {} with {features}: a CPU that lacks one of these features",
        bare.target.architecture.name()
    )?;
    writeln!(out, " * ends the program with an illegal instruction; {}() tells.", bare.function("supported"))?;
    writeln!(out, " *")?;
    writeln!(
        out,
        " * Inputs and outputs are arrays of float, row by row, without gaps. Functions write to outputs and"
    )?;
    writeln!(
        out,
        " * arena alone, call nothing but what they are given, and may run at the same time where these are"
    )?;
    writeln!(out, " * not the same. */")?;
    writeln!(out, "#ifndef {macros}_NETWORK_H\n#define {macros}_NETWORK_H\n\n#include <stddef.h>\n")?;
    writeln!(out, "#define {macros}_NAME {}", string(&manifest.name))?;
    writeln!(out, "#define {macros}_CPU_FEATURES {}", string(&features))?;
    for (i, (port, name)) in ports.iter().zip(&names).enumerate() {
        write_port(out, &format!("{macros}_{}", name.to_uppercase()), port, i < manifest.inputs.len())?;
        if let Some(Some(steps)) = bare.facts.preprocess.get(i) {
            writeln!(out, "/* How a picture becomes it, as the text of the network says:")?;
            steps.iter().try_for_each(|line| writeln!(out, " *   {line}"))?;
            writeln!(out, " */")?;
        }
    }
    if !bare.facts.labels.is_empty() {
        writeln!(out, "\n/* Names of the classes: static const char *const labels[] = {macros}_LABELS; */")?;
        writeln!(out, "#define {macros}_LABEL_COUNT {}", bare.facts.labels.len())?;
        let labels: Vec<String> = bare.facts.labels.iter().map(|label| format!("    {}", string(label))).collect();
        writeln!(out, "#define {macros}_LABELS {{ \\\n{} \\\n}}", labels.join(", \\\n"))?;
    }
    write_memory(out, bare, &macros)?;
    write_functions(out, bare, &names, manifest.inputs.len(), &macros)?;
    writeln!(out, "\n#endif")
}

fn write_port(out: &mut String, name: &str, port: &Port, is_input: bool) -> std::fmt::Result {
    let of = if is_input { "Input" } else { "Output" };
    let sizes: Vec<String> = port.shape.iter().map(usize::to_string).collect();
    let held = if port.element.is_f32() { String::new() } else { format!(", {} as float", port.element) };
    writeln!(out, "\n/* {of} {}: [{}]{held}.{} */", string(&port.name), sizes.join(", "), existing(port))?;
    writeln!(out, "#define {name}_NAME {}", string(&port.name))?;
    writeln!(out, "#define {name}_RANK {}", sizes.len())?;
    if !sizes.is_empty() {
        writeln!(out, "#define {name}_SHAPE {{{}}}", sizes.join(", "))?;
    }
    writeln!(out, "#define {name}_ELEMENTS {}", port.elements())
}

/// What a caller has to know of a port of which not all entries exist after a run.
fn existing(port: &Port) -> String {
    let Some(Rows { axis, each, counted_by }) = port.rows() else { return String::new() };
    let factor = if *each == 1 { String::new() } else { format!("{each} times ") };
    format!(
        "\n * After a run {factor}as many entries of axis {axis} exist as {} says; others mean nothing.",
        string(counted_by)
    )
}

fn write_memory(out: &mut String, bare: &Bare, macros: &str) -> std::fmt::Result {
    let sizes = &bare.sizes;
    let fixed = sizes.activations + sizes.record;
    writeln!(
        out,
        "\n/* Bytes of a run's memory, and what its address is a multiple of. What is in it does not matter. */"
    )?;
    writeln!(out, "#define {macros}_ARENA_SIZE {}", fixed + sizes.scratch)?;
    writeln!(out, "#define {macros}_ARENA_SIZE_FOR(workers) ({fixed} + (size_t)(workers) * {})", sizes.scratch)?;
    writeln!(out, "#define {macros}_ARENA_ALIGN {ALIGNMENT}")?;
    if bare.check.is_some() {
        writeln!(
            out,
            "\n/* Bytes of the file of weights, and what the address of its first byte is a multiple of. */"
        )?;
        writeln!(out, "#define {macros}_WEIGHTS_SIZE {}", sizes.weights)?;
        writeln!(out, "#define {macros}_WEIGHTS_ALIGN {ALIGNMENT}")?;
    }
    writeln!(out, "\n/* What the functions return. */")?;
    writeln!(out, "#define {macros}_OK 0")?;
    writeln!(
        out,
        "/* A null pointer, an address that is no multiple of what it must be, no workers. Nothing was done. */"
    )?;
    writeln!(out, "#define {macros}_BAD_ARGUMENT {}", entry::BAD_ARGUMENT)?;
    if bare.check.is_some() {
        writeln!(out, "/* The weights are those of another network or compilation. Nothing was done. */")?;
        writeln!(out, "#define {macros}_WRONG_WEIGHTS {}", entry::WRONG_WEIGHTS)?;
    }
    Ok(())
}

fn write_functions(out: &mut String, bare: &Bare, names: &[String], inputs: usize, macros: &str) -> std::fmt::Result {
    let kind = |i: usize| if i < inputs { "const float *" } else { "float *" };
    let mut parameters: Vec<String> = names.iter().enumerate().map(|(i, name)| format!("{}{name}", kind(i))).collect();
    parameters.push("void *arena".into());
    if bare.check.is_some() {
        parameters.push("const void *weights".into());
    }
    let parameters = parameters.join(", ");
    writeln!(out, "\n#ifdef __cplusplus\nextern \"C\" {{\n#endif\n")?;
    writeln!(
        out,
        "/* 1 where the CPU has all features of {macros}_CPU_FEATURES, 0 where it lacks one: asked of the CPU, each time. */"
    )?;
    writeln!(out, "int {}(void);\n", bare.function("supported"))?;
    writeln!(out, "/* Computes the outputs on the calling thread, in an arena of {macros}_ARENA_SIZE bytes. */")?;
    writeln!(out, "int {}({parameters});\n", bare.function("run"))?;
    writeln!(
        out,
        "/* The same, to the same bits, by several threads, in an arena of {macros}_ARENA_SIZE_FOR(workers) bytes."
    )?;
    writeln!(out, " *")?;
    writeln!(
        out,
        " * parallel_for(context, count, body, argument) calls body(argument, index, worker) for each index below"
    )?;
    writeln!(
        out,
        " * count, in any order, at the same time as it likes, and returns when all have returned. worker is a"
    )?;
    writeln!(
        out,
        " * number below workers that no other call has at that time. What a call of parallel_for has written before"
    )?;
    writeln!(
        out,
        " * it returns, the calls of body that follow can see, on whatever thread. count is at most workers. */"
    )?;
    writeln!(out, "int {}({parameters},", bare.function("run_parallel"))?;
    writeln!(out, "    void (*parallel_for)(void *context, size_t count,")?;
    writeln!(out, "        void (*body)(void *argument, size_t index, size_t worker), void *argument),")?;
    writeln!(out, "    void *context, size_t workers);")?;
    writeln!(out, "\n#ifdef __cplusplus\n}}\n#endif")
}
