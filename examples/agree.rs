#![allow(missing_docs)]
use netc::artifact::{About, Destination, Texts};
use netc::interop::onnx;
use netc::runtime::{Model, ModelOptions};
use netc::{codegen, npy, passes, plan, target};
use std::path::Path;
use std::time::Instant;

fn main() {
    for name in std::env::args().skip(1) {
        match check(&name) {
            Ok(line) => println!("{name}: {line}"),
            Err(e) => println!("{name}: FAILED {e}"),
        }
    }
}

fn check(name: &str) -> Result<String, String> {
    let start = Instant::now();
    let base = name.strip_suffix(".onnx").unwrap();
    let stem = base.strip_suffix(".script").or(base.strip_suffix(".dynamo")).unwrap_or(base);
    let mut graph = onnx::import(Path::new(name), &onnx::Options::default()).map_err(|e| e.to_string())?;
    netc::ir::verify(&graph).map_err(|e| format!("{e:?}"))?;
    if let Ok(path) = std::env::var("IR") { std::fs::write(format!("{path}.before"), graph.to_string()).unwrap(); }
    let t_import = start.elapsed();
    passes::run(&mut graph, &passes::Selection::default());
    if let Ok(path) = std::env::var("IR") { std::fs::write(format!("{path}.after"), graph.to_string()).unwrap(); }
    let t_passes = start.elapsed();
    let x = npy::read(Path::new(&format!("{stem}.x.npy"))).map_err(|e| e.to_string())?;
    let y = npy::read(Path::new(&format!("{base}.y.npy"))).map_err(|e| e.to_string())?;
    let mut plan = plan::Options::default();
    if let Ok(a) = std::env::var("ALGO") { plan.algorithms.push(("*".into(), a)); }
    if std::env::var("PLAN").is_ok() {
        let p = plan::plan(&graph, &target::Target::host(), &plan).unwrap();
        let six = p.steps.iter().filter(|s| s.kernel.name() == "winograd6").count();
        for s in p.steps.iter().filter(|s| s.kernel.name() == "winograd6") {
            let four = s.alternatives.iter().find(|a| a.0 == "winograd4").unwrap().1;
            print!("{:.2} ", s.estimate_ns / four);
        }
        let total: f64 = p.steps.iter().map(|s| s.estimate_ns).sum();
        return Ok(format!("winograd6 {six} estimate {:.2} ms", total / 1e6));
    }
    let image = codegen::compile(&graph, &target::Target::host(), &plan, &Destination::Memory).map_err(|e| e.to_string())?;
    let t_compile = start.elapsed();
    let texts = Texts { sources: vec![], ir: graph.to_string() };
    let about = About { netc: "x".into(), preprocess: vec![None], labels: vec![], recipe: None };
    let model = Model::from_image(image, about, texts, ModelOptions::default()).map_err(|e| e.to_string())?;
    let out = model.run_tensors(&[x]).map_err(|e| format!("{e:?}"))?;
    let (worst, scale) = out[0].difference(&y);
    if let Ok(t) = npy::read(Path::new(&format!("{stem}.f64.npy"))) { let (w, s) = out[0].difference(&t); print!("[f64 {:.2e}] ", w / s); }
    Ok(format!("{:.2e} {} of {scale}  import {:.1} passes {:.1} compile {:.1} total {:.1}", worst / scale,
        if worst <= 1e-4 * scale { "ok" } else { "DIFFERS" },
        t_import.as_secs_f32(), (t_passes - t_import).as_secs_f32(), (t_compile - t_passes).as_secs_f32(), start.elapsed().as_secs_f32()))
}
