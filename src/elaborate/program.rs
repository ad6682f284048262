//! The files of a program and which names each of them sees.
//!
//! `use` brings the modules of a file, not those that it uses itself. Every file is read once,
//! however many use it; files may use one another in circles.

use super::report::Report;
use super::{MAX_FILES, Options};
use crate::diagnostic::{Diagnostic, SourceId, Sources, Span, nearest};
use crate::opened;
use crate::ops::{self, layer::Layer};
use crate::syntax::ast::{self, Definition, DefinitionKind, Item, UsePath};
use crate::syntax::{hidden, parse};
use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};

/// The modules that ship with netc.
const STD: &[(&str, &str)] = &[
    ("densenet", include_str!("../../models/std/densenet.net")),
    ("inception", include_str!("../../models/std/inception.net")),
    ("resnet", include_str!("../../models/std/resnet.net")),
    ("vgg", include_str!("../../models/std/vgg.net")),
];

/// Wrong names that are taken for others.
const MAX_SIMILAR: usize = 256;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FileId(usize);

/// Names a module or model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct DefinitionId {
    pub file: FileId,
    item: usize,
}

/// Names a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FunctionId {
    pub file: FileId,
    item: usize,
}

pub(crate) struct Loaded {
    pub source: SourceId,
    pub tree: ast::File,
    imports: Vec<FileId>,
    /// A file that it uses could not be read, so that unknown modules say nothing.
    pub lacks_imports: bool,
}

/// What a name in a call stands for.
#[derive(Clone, Copy)]
pub(crate) enum Callee {
    Module(DefinitionId),
    Layer(&'static Layer),
}

pub(crate) struct Program {
    files: Vec<Loaded>,
    /// The modules that each file sees, by name.
    modules: Vec<HashMap<String, DefinitionId>>,
    /// The functions that each file sees, by name.
    functions: Vec<HashMap<String, FunctionId>>,
    layers: HashMap<&'static str, &'static Layer>,
    /// What wrong names have been taken for: a loop may ask for the same one many times.
    similar: RefCell<HashMap<(FileId, String), Option<String>>>,
}

impl Program {
    /// The file that was asked for; the others are those that it uses.
    pub(crate) const ROOT: FileId = FileId(0);

    /// Parses `root` and all files that it uses, directly and indirectly.
    pub(crate) fn load(sources: &mut Sources, root: SourceId, options: &Options, report: &mut Report) -> Program {
        let mut loader = Loader { sources, options, report, known: HashMap::new(), files: vec![] };
        let path = PathBuf::from(&*loader.sources.get(root).name);
        loader.known.insert(Key::File(normal(&path)), FileId(0));
        loader.parse(root);
        let mut next = 0;
        while next < loader.files.len() {
            loader.imports(FileId(next));
            next += 1;
        }
        let layers = ops::layers().map(|l| (l.name, l)).collect();
        let mut program =
            Program { files: loader.files, modules: vec![], functions: vec![], layers, similar: RefCell::default() };
        let visible = |file| first_of_each(program.modules(file).map(|(id, module)| (&module.name.name, id)));
        program.modules = program.files().map(visible).collect();
        let functions = |file| program.seen_from(file).flat_map(|file| program.functions_of(file));
        let visible = |file| first_of_each(functions(file).map(|(id, function)| (&function.name.name, id)));
        program.functions = program.files().map(visible).collect();
        program
    }

    pub(crate) fn file(&self, id: FileId) -> &Loaded {
        &self.files[id.0]
    }

    pub(crate) fn files(&self) -> impl Iterator<Item = FileId> {
        (0..self.files.len()).map(FileId)
    }

    pub(crate) fn definition(&self, id: DefinitionId) -> &Definition {
        match &self.file(id.file).tree.items[id.item] {
            Item::Definition(definition) => definition,
            other => unreachable!("a definition's id names {other:?}"),
        }
    }

    /// The definitions of one kind in a file, in text order.
    pub(crate) fn definitions(
        &self,
        file: FileId,
        kind: DefinitionKind,
    ) -> impl Iterator<Item = (DefinitionId, &Definition)> {
        let items = self.file(file).tree.items.iter().enumerate();
        items.filter_map(move |(item, i)| match i {
            Item::Definition(d) if d.kind == kind => Some((DefinitionId { file, item }, d)),
            _ => None,
        })
    }

    /// The `train` blocks of a file, in text order.
    pub(crate) fn trainings(&self, file: FileId) -> impl Iterator<Item = &ast::Train> {
        let items = self.file(file).tree.items.iter();
        items.filter_map(|item| if let Item::Train(train) = item { Some(train) } else { None })
    }

    /// A file and those that it uses.
    fn seen_from(&self, file: FileId) -> impl Iterator<Item = FileId> {
        [file].into_iter().chain(self.file(file).imports.iter().copied())
    }

    /// The modules that a file sees: its own, then those that it uses.
    fn modules(&self, file: FileId) -> impl Iterator<Item = (DefinitionId, &Definition)> {
        self.seen_from(file).flat_map(|f| self.definitions(f, DefinitionKind::Module))
    }

    /// The functions of a file, in text order.
    pub(crate) fn functions_of(&self, file: FileId) -> impl Iterator<Item = (FunctionId, &ast::Function)> {
        let items = self.file(file).tree.items.iter().enumerate();
        items.filter_map(move |(item, i)| match i {
            Item::Function(function) => Some((FunctionId { file, item }, function)),
            _ => None,
        })
    }

    /// The function that a file calls by this name, unless it is one of the language.
    pub(crate) fn function(&self, file: FileId, name: &str) -> Option<(FunctionId, &ast::Function)> {
        let id = *self.functions[file.0].get(name)?;
        match &self.file(id.file).tree.items[id.item] {
            Item::Function(function) => Some((id, function)),
            other => unreachable!("a function's id names {other:?}"),
        }
    }

    /// The names of the functions that a file sees.
    pub(crate) fn function_names(&self, file: FileId) -> impl Iterator<Item = &str> {
        self.functions[file.0].keys().map(String::as_str)
    }

    pub(crate) fn callee(&self, file: FileId, name: &str) -> Option<Callee> {
        let module = self.modules[file.0].get(name).copied();
        module.map(Callee::Module).or_else(|| self.layer(name).map(Callee::Layer))
    }

    pub(crate) fn layer(&self, name: &str) -> Option<&'static Layer> {
        self.layers.get(name).copied()
    }

    /// The module or layer that a wrong name most likely means.
    pub(crate) fn similar_callee(&self, file: FileId, name: &str) -> Option<String> {
        let key = (file, name.to_string());
        if let Some(known) = self.similar.borrow().get(&key) {
            return known.clone();
        }
        // A text of that many wrong names has another mistake.
        if self.similar.borrow().len() >= MAX_SIMILAR {
            return None;
        }
        let similar = self.most_similar(file, name);
        self.similar.borrow_mut().insert(key, similar.clone());
        similar
    }

    fn most_similar(&self, file: FileId, name: &str) -> Option<String> {
        if ops::layer::written_out(name).is_some() {
            return None;
        }
        let names: Vec<&str> =
            self.modules(file).map(|(_, d)| d.name.name.as_str()).chain(self.layers.keys().copied()).collect();
        let plain = |n: &str| n.to_lowercase().replace('_', "");
        let same = names.iter().find(|n| plain(n) == plain(name)).copied();
        let known = || ops::layer::FOREIGN_NAMES.iter().find(|(other, _)| *other == plain(name)).map(|(_, own)| *own);
        // Of equally near names the alphabet decides, not the table's order.
        let mut sorted = names.clone();
        sorted.sort_unstable();
        same.or_else(known).or_else(|| nearest(name, sorted)).map(str::to_string)
    }
}

/// By name, the first that has it.
fn first_of_each<'a, T>(named: impl Iterator<Item = (&'a String, T)>) -> HashMap<String, T> {
    let mut first = HashMap::new();
    for (name, id) in named {
        first.entry(name.clone()).or_insert(id);
    }
    first
}

#[derive(PartialEq, Eq, Hash)]
enum Key {
    File(PathBuf),
    Std(String),
}

struct Loader<'a> {
    sources: &'a mut Sources,
    options: &'a Options<'a>,
    report: &'a mut Report,
    known: HashMap<Key, FileId>,
    files: Vec<Loaded>,
}

impl Loader<'_> {
    fn parse(&mut self, source: SourceId) {
        let (tree, diagnostics) = parse(self.sources, source);
        diagnostics.into_iter().for_each(|d| self.report.add(d));
        hidden::find(&self.sources.get(source).text, source).for_each(|d| self.report.add(d));
        self.report.lost_words.extend(tree.lost_words.iter().cloned());
        self.files.push(Loaded { source, tree, imports: vec![], lacks_imports: false });
    }

    fn imports(&mut self, id: FileId) {
        let uses: Vec<ast::Use> = self.files[id.0].tree.items.iter().filter_map(as_use).cloned().collect();
        let mut imports: Vec<FileId> = vec![];
        for item in uses {
            match self.import(id, &item) {
                Some(file) if file != id && !imports.contains(&file) => imports.push(file),
                Some(_) => {}
                None => self.files[id.0].lacks_imports = true,
            }
        }
        self.files[id.0].imports = imports;
    }

    fn import(&mut self, from: FileId, item: &ast::Use) -> Option<FileId> {
        let path = match &item.path {
            UsePath::Std(name) => return self.import_std(name, item.span),
            UsePath::File(path) => path,
        };
        let path = normal(&folder_of(&self.sources.get(self.files[from.0].source).name).join(path));
        if let Some(&file) = self.known.get(&Key::File(path.clone())) {
            return Some(file);
        }
        let message = match (self.options.loader)(&path) {
            Ok(text) => return self.add(Key::File(path.clone()), path.display().to_string(), text, item.span),
            Err(error) => format!("cannot read {}: {error}", path.display()),
        };
        self.report.add(
            Diagnostic::error("unreadable-file", message)
                .primary(item.span, "used here")
                .help("paths count from the folder of the file that holds the `use`"),
        );
        None
    }

    fn import_std(&mut self, name: &str, span: Span) -> Option<FileId> {
        if let Some(&file) = self.known.get(&Key::Std(name.into())) {
            return Some(file);
        }
        if let Some((_, text)) = STD.iter().find(|(n, _)| *n == name) {
            return self.add(Key::Std(name.into()), format!("std/{name}.net"), text.to_string(), span);
        }
        let names: Vec<&str> = STD.iter().map(|(n, _)| *n).collect();
        let diagnostic =
            Diagnostic::error("unknown-file", format!("netc ships no `std.{name}`")).primary(span, "unknown");
        self.report.add(match nearest(name, names.iter().copied()) {
            Some(similar) => diagnostic.help(format!("did you mean `std.{similar}`?")),
            None => diagnostic.help(format!("there are std.{}", names.join(", std."))),
        });
        None
    }

    fn add(&mut self, key: Key, name: String, text: String, span: Span) -> Option<FileId> {
        if self.files.len() == MAX_FILES {
            let message = format!("more than {MAX_FILES} files");
            self.report.add(Diagnostic::error("too-many-files", message).primary(span, "one too many"));
            return None;
        }
        let id = FileId(self.files.len());
        self.known.insert(key, id);
        let source = self.sources.add(name, text);
        self.parse(source);
        Some(id)
    }
}

fn as_use(item: &Item) -> Option<&ast::Use> {
    match item {
        Item::Use(item) => Some(item),
        _ => None,
    }
}

/// The folder that a text's `use` and `labels` name files from: its own. That of a pipe is the current one.
pub(super) fn folder_of(text: &str) -> &Path {
    let path = Path::new(text);
    if opened::is_stream(path) { Path::new("") } else { path.parent().unwrap_or(Path::new("")) }
}

/// A path without `.` and, where it is possible by text alone, without `..`.
fn normal(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if matches!(out.components().next_back(), Some(Component::Normal(_))) => {
                out.pop();
            }
            part => out.push(part),
        }
    }
    if out.as_os_str().is_empty() { ".".into() } else { out }
}
