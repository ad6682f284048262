//! With `--strict`, bits do not depend on the vector unit, the batch or the threads.

use std::path::Path;

use netc::internals::driver::Compiler;
use netc::internals::plan;
use netc::internals::runtime::ModelOptions;
use netc::internals::target::Target;
use netc::internals::tensor::{Shape, Tensor};

/// Between them: groups, strides, lrn, pools, concats, residuals, transposed convolutions, softmax.
const NETWORKS: &[&str] = &["alexnet", "googlenet", "resnet18", "dcgan_generator", "layers_norm", "layers_softmax"];

fn compiler(unit: &str) -> Option<Compiler> {
    let target = Target::parse(unit).unwrap();
    let plan = plan::Options { strict: true, ..Default::default() };
    target.runs_here().then(|| Compiler { target, plan, ..Compiler::default() })
}

fn images(ports: &[netc::internals::artifact::Port], count: usize) -> Vec<Tensor> {
    let tensor = |port: &netc::internals::artifact::Port| {
        let mut dims = port.shape().to_vec();
        dims[0] = count;
        let elements = dims.iter().product::<usize>();
        let values = (0..elements).map(|i| ((i * 2_654_435_761 % 1009) as f32 - 504.0) / 300.0);
        Tensor::new(Shape::new(dims), values.collect())
    };
    ports.iter().map(tensor).collect()
}

#[test]
fn bits_are_the_same_everywhere() {
    let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens");
    for name in NETWORKS {
        let spec = goldens.join(format!("{name}.net"));
        let mut first: Option<Vec<Vec<u32>>> = None;
        for (unit, batch, threads) in [("avx512", 1, 1), ("avx2", 1, 2), ("fma", 2, 3), ("avx512", 3, 2)] {
            let Some(compiler) = compiler(unit) else { continue };
            let compiler = compiler.batch(batch).options(ModelOptions::default().threads(threads));
            let model = compiler.compile_file(&spec).unwrap();
            let outputs = model.run_tensors(&images(model.inputs(), 3)).unwrap();
            let bits = outputs.iter().map(|t| t.data().iter().map(|v| v.to_bits()).collect()).collect();
            let first = first.get_or_insert_with(|| Vec::clone(&bits));
            assert!(*first == bits, "{name}: {unit}, batch {batch}, {threads} threads");
        }
    }
}
