//! A syntax tree as text, one node a line, for `netc ir --stage ast`.

use super::ast::*;
use std::fmt::Write;

/// Prints the tree of a file: nodes indented under their parents, expressions as in the source.
pub(crate) fn print_tree(file: &File) -> String {
    let mut printer = Printer { out: String::new(), depth: 0 };
    for item in &file.items {
        printer.item(item);
    }
    printer.out
}

struct Printer {
    out: String,
    depth: usize,
}

impl Printer {
    fn line(&mut self, text: impl AsRef<str>) {
        let _ = writeln!(self.out, "{}{}", "  ".repeat(self.depth), text.as_ref());
    }

    fn under(&mut self, text: impl AsRef<str>, inner: impl FnOnce(&mut Self)) {
        self.line(text);
        self.depth += 1;
        inner(self);
        self.depth -= 1;
    }

    fn item(&mut self, item: &Item) {
        match item {
            Item::Use(Use { path: UsePath::File(path), .. }) => self.line(format!("use {path:?}")),
            Item::Use(Use { path: UsePath::Std(path), .. }) => self.line(format!("use std.{path}")),
            Item::Let(l) => self.line(let_text(l)),
            Item::Table(t) => self.table(t),
            Item::Train(t) => self.train(t),
            Item::Function(f) => {
                let param = |p: &Param| match &p.default {
                    Some(default) => format!("{} = {}", p.name.name, expr(default)),
                    None => p.name.name.clone(),
                };
                let params: Vec<String> = f.params.iter().map(param).collect();
                self.line(format!("fn {}({}) = {}", f.name.name, params.join(", "), expr(&f.body)));
            }
            Item::Error => self.line("error"),
            Item::Definition(d) => self.under(format!("{} {}", d.kind.word(), d.name.name), |p| {
                for param in &d.params {
                    let default = param.default.as_ref().map_or(String::new(), |e| format!(" = {}", expr(e)));
                    p.line(format!("param {}{default}", param.name.name));
                }
                p.block(&d.body);
            }),
        }
    }

    fn block(&mut self, block: &Block) {
        block.statements.iter().for_each(|s| self.statement(s));
    }

    fn statement(&mut self, statement: &Statement) {
        let label = statement.label.as_ref().map_or(String::new(), |l| format!("{}: ", template(&l.parts)));
        match &statement.kind {
            StatementKind::Call(c) => {
                let shares = c.shares.as_ref().map_or(String::new(), |l| format!(" shares {}", template(&l.parts)));
                self.line(format!("{label}{}{}{shares}", c.name.name, args(&c.args)));
            }
            StatementKind::Block(b) => self.under(format!("{label}block"), |p| p.block(b)),
            StatementKind::Branches(b) => self.under(format!("{label}branches {}", b.join.name), |p| {
                for branch in lines(&b.body.statements) {
                    p.under("branch", |p| branch.iter().for_each(|s| p.statement(s)));
                }
            }),
            StatementKind::Residual { condition, body, skip } => {
                let condition = condition.as_ref().map_or(String::new(), |e| format!(" if {}", expr(e)));
                self.under(format!("{label}residual{condition}"), |p| {
                    p.under("body", |p| p.block(body));
                    if let Some(skip) = skip {
                        p.under("skip", |p| p.block(skip));
                    }
                });
            }
            StatementKind::Aux(a) => {
                let name = a.label.as_ref().map_or(String::new(), |l| format!(" {}", template(&l.parts)));
                self.under(format!("{label}aux{name}{}", args(&a.args)), |p| p.block(&a.body));
            }
            StatementKind::For { pattern: names, items, body } => {
                self.under(format!("{label}for {} in {}", pattern(names), expr(items)), |p| p.block(body));
            }
            StatementKind::If { arms, otherwise } => {
                for (condition, body) in arms {
                    self.under(format!("{label}if {}", expr(condition)), |p| p.block(body));
                }
                if let Some(otherwise) = otherwise {
                    self.under("else", |p| p.block(otherwise));
                }
            }
            StatementKind::When { phase, body } => self.under(format!("when {}", phase.name), |p| p.block(body)),
            StatementKind::Let(l) => self.line(let_text(l)),
            StatementKind::Table(t) => self.table(t),
            StatementKind::Require { condition, message } => {
                let message = message.as_ref().map_or(String::new(), |m| format!(", {}", expr(m)));
                self.line(format!("require {}{message}", expr(condition)));
            }
            StatementKind::Expect(e) => self.line(expect_text(e)),
            StatementKind::Input { name, dtype, dims } => {
                self.line(format!("input {}: {}[{}]", name.name, dtype.name, list(dims)));
            }
            StatementKind::Output { name, from } => {
                let from = from.as_ref().map_or(String::new(), |l| format!(" from {}", template(&l.parts)));
                self.line(format!("output {}{from}", template(&name.parts)));
            }
            StatementKind::Preprocess { input, settings } => {
                let input = input.as_ref().map_or(String::new(), |i| format!(" {}", i.name));
                self.under(format!("preprocess{input}"), |p| {
                    settings.iter().for_each(|s| p.line(format!("{} {}", s.name.name, expr(&s.value))));
                });
            }
            StatementKind::ClassLabels(names) => self.line(format!("labels {}", expr(names))),
            StatementKind::From(value) => self.line(format!("{label}from({})", expr(value))),
            StatementKind::Error(block) => self.under("error", |p| {
                if let Some(block) = block {
                    p.block(block);
                }
            }),
        }
    }

    fn train(&mut self, train: &Train) {
        let models = if train.models.is_empty() { String::new() } else { format!("({})", names(&train.models)) };
        self.under(format!("train {}{models}", train.name.name), |p| p.train_block(&train.body));
    }

    fn train_block(&mut self, block: &TrainBlock) {
        block.statements.iter().for_each(|s| self.train_statement(&s.kind));
    }

    fn train_statement(&mut self, statement: &TrainStatementKind) {
        match statement {
            TrainStatementKind::Clause { name, values } => self.line(format!("{} {}", name.name, list(values))),
            TrainStatementKind::Init { kind, value } => {
                let kind = kind.as_ref().map_or(String::new(), |k| format!(" {}", template(&k.parts)));
                self.line(format!("init{kind} {}", expr(value)));
            }
            TrainStatementKind::LrScale { of, by } => {
                let of: Vec<String> = of.iter().map(|label| template(&label.parts)).collect();
                self.line(format!("lr_scale {} {}", of.join(", "), expr(by)));
            }
            TrainStatementKind::Augment { input, changes } => {
                let input = input.as_ref().map_or(String::new(), |i| format!(" {}", i.name));
                self.under(format!("augment{input}"), |p| {
                    changes.iter().for_each(|c| p.line(format!("{}{}", c.name.name, args(&c.args))));
                });
            }
            TrainStatementKind::Source { kind, name, of, dims } => {
                self.line(format!("{} {}: {}[{}]", kind.word(), name.name, of.name, list(dims)));
            }
            TrainStatementKind::Step { models, args: given, body } => {
                let given = if given.is_empty() { String::new() } else { args(given) };
                self.under(format!("step {}{given}", names(models)), |p| p.train_block(body));
            }
            TrainStatementKind::Let(l) => self.line(let_text(l)),
            TrainStatementKind::Expect(e) => self.line(expect_text(e)),
            TrainStatementKind::Error(block) => self.under("error", |p| {
                if let Some(block) = block {
                    p.train_block(block);
                }
            }),
        }
    }

    fn table(&mut self, table: &Table) {
        let columns: Vec<_> = table.columns.iter().map(|c| c.name.as_str()).collect();
        self.under(format!("table {}({})", table.name.name, columns.join(", ")), |p| {
            table.rows.iter().for_each(|row| p.line(list(row)));
        });
    }
}

fn let_text(l: &Let) -> String {
    format!("let {} = {}", pattern(&l.pattern), expr(&l.value))
}

fn expect_text(e: &Expect) -> String {
    let unit = e.unit.as_ref().map_or(String::new(), |unit| format!(" {}", unit.name));
    format!("expect {}{} {} {}{unit}", e.metric.name, args(&e.args), e.comparison.symbol(), expr(&e.value))
}

fn names(names: &[Ident]) -> String {
    names.iter().map(|name| name.name.as_str()).collect::<Vec<_>>().join(", ")
}

fn pattern(p: &Pattern) -> String {
    match p {
        Pattern::Name(ident) => ident.name.clone(),
        Pattern::Tuple(parts, _) => format!("({})", parts.iter().map(pattern).collect::<Vec<_>>().join(", ")),
    }
}

fn args(args: &[Arg]) -> String {
    if args.is_empty() { String::new() } else { format!("({})", arg_list(args)) }
}

fn arg_list(args: &[Arg]) -> String {
    let text = |a: &Arg| match &a.name {
        Some(name) => format!("{} = {}", name.name, expr(&a.value)),
        None => expr(&a.value),
    };
    args.iter().map(text).collect::<Vec<_>>().join(", ")
}

fn list(items: &[Expr]) -> String {
    items.iter().map(expr).collect::<Vec<_>>().join(", ")
}

fn template(parts: &[TemplatePart]) -> String {
    let text = |p: &TemplatePart| match p {
        TemplatePart::Text(text) => text.escape_debug().to_string(),
        TemplatePart::Expr(e) => format!("{{{}}}", expr(e)),
    };
    parts.iter().map(text).collect()
}

/// An expression with every operation in parentheses.
fn expr(e: &Expr) -> String {
    match &e.kind {
        ExprKind::Int(v) => v.to_string(),
        ExprKind::Float(v) => format!("{v:?}"),
        ExprKind::Bool(v) => v.to_string(),
        ExprKind::Template(parts) => format!("\"{}\"", template(parts)),
        ExprKind::Name(name) => name.clone(),
        ExprKind::In => "in".into(),
        ExprKind::Here => "here".into(),
        ExprKind::Label(label) => template(&label.parts),
        ExprKind::List(items) => format!("[{}]", list(items)),
        ExprKind::Tuple(items) if items.len() == 1 => format!("({},)", list(items)),
        ExprKind::Tuple(items) => format!("({})", list(items)),
        ExprKind::Range { start, end, inclusive } => {
            format!("({} {} {})", expr(start), if *inclusive { "..=" } else { ".." }, expr(end))
        }
        ExprKind::Unary(UnaryOp::Neg, operand) => format!("(-{})", expr(operand)),
        ExprKind::Unary(UnaryOp::Not, operand) => format!("(not {})", expr(operand)),
        ExprKind::Binary(op, _, left, right) => format!("({} {} {})", expr(left), op.symbol(), expr(right)),
        ExprKind::If { condition, then, otherwise } => {
            format!("(if {} then {} else {})", expr(condition), expr(then), expr(otherwise))
        }
        ExprKind::Field(operand, field) => format!("{}.{}", expr(operand), field.name),
        ExprKind::Index(operand, index) => format!("{}[{}]", expr(operand), expr(index)),
        ExprKind::Slice { operand, start, end, inclusive } => {
            let [start, end] = [start, end].map(|bound| bound.as_ref().map_or(String::new(), |e| expr(e)));
            format!("{}[{start} {} {end}]", expr(operand), if *inclusive { "..=" } else { ".." })
        }
        ExprKind::Comprehension { value, each } => {
            let clause = |each: &Each| {
                let condition = each.condition.as_ref().map_or(String::new(), |e| format!(" if {}", expr(e)));
                format!(" for {} in {}{condition}", pattern(&each.pattern), expr(&each.items))
            };
            format!("[{}{}]", expr(value), each.iter().map(clause).collect::<String>())
        }
        ExprKind::Function(name, args) => format!("{}({})", name.name, arg_list(args)),
        ExprKind::Error => "error".into(),
    }
}
