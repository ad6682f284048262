//! Circles of modules that call one another without a condition, so that no evaluation of them ends. Where an `if`, a
//! `for` or the condition of a residual stands around a call, it may end the circle: the evaluation tells.

use super::check::inner_blocks;
use super::program::{Callee, DefinitionId, FileId, Program};
use super::report::Report;
use crate::diagnostic::{Diagnostic, Span};
use crate::syntax::ast::{Block, DefinitionKind, StatementKind};
use std::collections::{HashMap, HashSet};

/// A call of one module in another: who is called, and where.
type Edge = (DefinitionId, Span);

/// Reports each circle of modules that call one another and no condition ends.
pub(crate) fn recursion(program: &Program, report: &mut Report) {
    let mut edges: HashMap<DefinitionId, Vec<Edge>> = HashMap::new();
    for file in program.files() {
        for (id, definition) in program.definitions(file, DefinitionKind::Module) {
            let mut called = vec![];
            calls_in(program, file, &definition.body, &mut called);
            edges.insert(id, called);
        }
    }
    let mut done = HashSet::new();
    let mut starts: Vec<DefinitionId> = edges.keys().copied().collect();
    starts.sort_by_key(|id| program.definition(*id).name.span.start);
    for start in starts {
        search(program, report, &edges, start, &mut done);
    }
}

fn calls_in(program: &Program, file: FileId, block: &Block, called: &mut Vec<Edge>) {
    for statement in &block.statements {
        if let StatementKind::Call(call) = &statement.kind
            && let Some(Callee::Module(id)) = program.callee(file, &call.name.name)
        {
            called.push((id, call.name.span));
        }
        let always = match &statement.kind {
            StatementKind::If { .. } | StatementKind::For { .. } | StatementKind::When { .. } => vec![],
            kind => inner_blocks(kind),
        };
        always.into_iter().for_each(|b| calls_in(program, file, b, called));
    }
}

/// Depth-first search with a stack of its own: call graphs may be deep.
fn search(
    program: &Program,
    report: &mut Report,
    edges: &HashMap<DefinitionId, Vec<Edge>>,
    start: DefinitionId,
    done: &mut HashSet<DefinitionId>,
) {
    let mut path: Vec<(DefinitionId, usize)> = vec![(start, 0)];
    while let Some((id, next)) = path.last_mut() {
        let id = *id;
        let edge = (!done.contains(&id)).then(|| edges[&id].get(*next)).flatten().copied();
        *next += 1;
        let Some((callee, span)) = edge else {
            done.insert(id);
            path.pop();
            continue;
        };
        match path.iter().position(|(p, _)| *p == callee) {
            Some(at) => {
                let circle: Vec<DefinitionId> = path[at..].iter().map(|(p, _)| *p).collect();
                report_circle(program, report, &circle, span);
            }
            None => path.push((callee, 0)),
        }
    }
}

fn report_circle(program: &Program, report: &mut Report, circle: &[DefinitionId], span: Span) {
    let name = |id: &DefinitionId| program.definition(*id).name.name.clone();
    let first = circle.first().map(name).unwrap_or_default();
    let names: Vec<String> = circle.iter().map(name).chain([first]).collect();
    let message = format!("modules call one another without end: {}", names.join(" → "));
    let mut diagnostic = Diagnostic::error("recursion", message).primary(span, "closes the circle");
    for id in circle {
        let definition = &program.definition(*id).name;
        diagnostic = diagnostic.secondary(definition.span, format!("`{}`", definition.name));
    }
    report.add(diagnostic.help("repeat layers with `for`, or end the circle by an `if`: `if n > 1 { … }`"));
}
