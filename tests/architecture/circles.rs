//! Between files of a crate data flows one way: no file imports, by whatever way round, a file that imports it.
//!
//! An import is a path that the code names: in a `use`, or on the spot. It leads to the file that defines the
//! item, through re-exports. Declaring a module, and re-exporting what it defines, imports nothing. Code for
//! tests is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::{CRATES, root, sources};

/// A module's path within its crate; the crate itself is empty.
type Module = Vec<String>;

/// One file: what it may reach, and what others reach through it.
#[derive(Default)]
struct Source {
    code: String,
    children: BTreeSet<String>,
    /// Names re-exported from a child, with the path behind `self`; `*` for all.
    exports: Vec<(String, Module)>,
}

/// Removes comments, texts and the modules of tests.
pub(super) fn strip(text: &str) -> String {
    let mut code = String::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let trimmed = line.trim();
        if trimmed.starts_with("#[cfg(test)]") || trimmed.starts_with("#[cfg(all(test") {
            // What follows belongs to tests: one line, or a block to the brace at the same indent.
            let indent = line.len() - line.trim_start().len();
            while lines
                .peek()
                .is_some_and(|next| next.trim().starts_with("#["))
            {
                lines.next();
            }
            let Some(first) = lines.next() else { break };
            if first.trim_end().ends_with('{') {
                let end = format!("{}}}", " ".repeat(indent));
                for inner in lines.by_ref() {
                    if inner == end {
                        break;
                    }
                }
            }
            continue;
        }
        if !trimmed.starts_with("//") {
            code.push_str(line.split(" // ").next().unwrap());
            code.push('\n');
        }
    }
    code
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The paths of one `use` tree, each a list of names; a glob ends in `*`.
fn expand(tree: &str, prefix: &Module, found: &mut Vec<Module>) {
    let tree = tree.trim();
    if let Some((head, rest)) = tree.split_once('{') {
        let mut prefix = prefix.clone();
        prefix.extend(names(head));
        let (mut depth, mut start) = (0, 0);
        let inner = &rest[..rest.rfind('}').unwrap_or(rest.len())];
        for (at, c) in inner.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    expand(&inner[start..at], &prefix, found);
                    start = at + 1;
                }
                _ => {}
            }
        }
        expand(&inner[start..], &prefix, found);
    } else if !tree.is_empty() {
        let path = tree.split(" as ").next().unwrap();
        let mut whole = prefix.clone();
        whole.extend(names(path));
        found.push(whole);
    }
}

fn names(path: &str) -> impl Iterator<Item = String> {
    path.split("::")
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
}

/// The `use` declarations of a code, with whether others see what they name.
fn uses(code: &str) -> Vec<(bool, Module)> {
    let mut found = Vec::new();
    for statement in code.split(';') {
        let at = statement
            .match_indices("use ")
            .find(|(at, _)| {
                let line = statement[..*at].rsplit('\n').next().unwrap().trim();
                line.is_empty() || (line.starts_with("pub") && !line.contains(' '))
            })
            .map(|(at, _)| at);
        if let Some(at) = at {
            let line = statement[..at].rsplit('\n').next().unwrap().trim();
            let mut paths = Vec::new();
            expand(&statement[at + 4..], &Vec::new(), &mut paths);
            found.extend(
                paths
                    .into_iter()
                    .map(|path| (line.starts_with("pub"), path)),
            );
        }
    }
    found
}

/// Paths that the code names on the spot: sequences of names joined by `::`.
fn named(code: &str) -> Vec<Module> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("::") {
        let head = code[..at].trim_end_matches(is_word);
        // The middle of a path; or where something is visible, which imports nothing.
        if head.ends_with("::") || head.ends_with("(in ") {
            continue;
        }
        let rest = &code[head.len()..];
        let end = rest
            .find(|c: char| !is_word(c) && c != ':')
            .unwrap_or(rest.len());
        // The stem of a tree of names belongs to a `use`, which is read whole.
        if !rest[end..].starts_with('{') {
            found.push(names(&rest[..end]).collect());
        }
    }
    found
}

/// The sources of one crate by their modules.
struct Tree(BTreeMap<Module, Source>);

impl Tree {
    fn read(top: &Path) -> Self {
        let mut tree = BTreeMap::new();
        for path in sources(top) {
            let relative = path.strip_prefix(top).unwrap().with_extension("");
            let mut module: Module = relative
                .iter()
                .map(|part| part.to_str().unwrap().to_owned())
                .collect();
            let last = module.last().unwrap().clone();
            if last == "tests" || last.ends_with("_tests") || module.iter().any(|m| m == "tests") {
                continue;
            }
            if ["mod", "lib", "main"].contains(&&*last) {
                module.pop();
            }
            if last == "main" {
                continue;
            }
            let code = strip(&fs::read_to_string(&path).unwrap());
            let children = code.lines().filter_map(|line| {
                let line = line.trim();
                let declared = line.strip_suffix(';')?;
                let (visible, name) = declared.rsplit_once("mod ")?;
                (visible.is_empty() || visible.starts_with("pub")).then(|| name.to_owned())
            });
            let children = children.collect();
            let source = Source {
                code,
                children,
                exports: Vec::new(),
            };
            tree.insert(module, source);
        }
        for source in tree.values_mut() {
            for (is_public, path) in uses(&source.code) {
                let path: Module = path.into_iter().filter(|name| name != "self").collect();
                if is_public
                    && path
                        .first()
                        .is_some_and(|name| source.children.contains(name))
                {
                    source
                        .exports
                        .push((path.last().unwrap().clone(), path.clone()));
                }
            }
        }
        Self(tree)
    }

    /// The module that defines what `path` names, read in `module`.
    fn resolve(&self, module: &Module, path: &Module) -> Option<Module> {
        let mut rest = path.iter().peekable();
        let mut at = module.clone();
        match path.first()?.as_str() {
            "crate" => {
                at.clear();
                rest.next();
            }
            "self" => {
                rest.next();
            }
            "super" => {
                while rest.peek().is_some_and(|name| *name == "super") {
                    at.pop();
                    rest.next();
                }
            }
            name if self.0.get(module)?.children.contains(name) => {}
            _ => return None,
        }
        while let Some(name) = rest.peek() {
            let source = self.0.get(&at)?;
            if source.children.contains(*name) {
                at.push((*name).clone());
                rest.next();
                continue;
            }
            let export = source
                .exports
                .iter()
                .find(|(exported, _)| exported == *name)
                .or_else(|| {
                    let mut globs = source.exports.iter().filter(|(name, _)| name == "*");
                    globs.next()
                });
            return match export {
                Some((_, behind)) => self.resolve(&at, behind),
                None => Some(at),
            };
        }
        self.0.contains_key(&at).then_some(at)
    }

    /// Which module imports which.
    fn imports(&self) -> BTreeMap<&Module, BTreeSet<Module>> {
        let mut all = BTreeMap::new();
        for (module, source) in &self.0 {
            let mut own = BTreeSet::new();
            let declared = uses(&source.code).into_iter().filter(|(is_public, path)| {
                let first = path.iter().find(|name| *name != "self");
                !(*is_public && first.is_some_and(|name| source.children.contains(name)))
            });
            let declared: Vec<_> = declared.map(|(_, path)| path).collect();
            let mut spots = named(&source.code);
            // A re-export is no import: its path does not count on the spot either.
            spots.retain(|path| {
                let of_export = |export: &(String, Module)| {
                    export.1.starts_with(path) || path.starts_with(&export.1)
                };
                !source.exports.iter().any(of_export)
            });
            for path in declared.into_iter().chain(spots) {
                own.extend(
                    self.resolve(module, &path)
                        .filter(|other| other != module && !other.is_empty()),
                );
            }
            all.insert(module, own);
        }
        all
    }

    /// Sets of modules that import each other.
    fn circles(&self) -> Vec<BTreeSet<Module>> {
        let imports = self.imports();
        let reach = |from: &Module| {
            let (mut seen, mut next) = (BTreeSet::new(), vec![from.clone()]);
            while let Some(module) = next.pop() {
                for other in imports.get(&module).into_iter().flatten() {
                    if seen.insert(other.clone()) {
                        next.push(other.clone());
                    }
                }
            }
            seen
        };
        let reached: BTreeMap<&Module, BTreeSet<Module>> = imports
            .keys()
            .map(|module| (*module, reach(module)))
            .collect();
        let mut circles = BTreeSet::new();
        for (module, seen) in &reached {
            if seen.contains(*module) {
                let together = seen.iter().filter(|other| {
                    reached
                        .get(other)
                        .is_some_and(|back| back.contains(*module))
                });
                circles.insert(together.cloned().collect::<BTreeSet<_>>());
            }
        }
        circles.into_iter().collect()
    }
}

/// Goal: data flows one way between files. Method: follow each path that a file names to the file that defines
/// what it names, and look for ways back.
#[test]
fn files_import_one_way() {
    let (mut text, mut seen) = (String::new(), 0);
    for (directory, _) in CRATES {
        let tree = Tree::read(&root().join(directory));
        let imports = tree.imports();
        seen += imports.values().map(BTreeSet::len).sum::<usize>();
        for circle in tree.circles() {
            text.push_str(directory);
            text.push_str(":\n");
            for module in &circle {
                let others = imports[module].intersection(&circle);
                let others: Vec<_> = others.map(|other| other.join("::")).collect();
                text.extend([
                    "    ",
                    &module.join("::"),
                    " -> ",
                    &others.join(", "),
                    "
",
                ]);
            }
        }
    }
    assert!(seen > 400, "the reader of paths sees only {seen} imports");
    assert!(
        text.is_empty(),
        "circles between files:
{text}"
    );
}

/// Goal: the reader sees what it should. Method: a tree with a circle over a re-export, and one in tests only.
#[test]
fn circles_are_seen() {
    let source = |text: &str, children: &[&str]| Source {
        code: strip(text),
        children: children.iter().map(|&name| name.to_owned()).collect(),
        exports: Vec::new(),
    };
    let module = |path: &str| names(path).collect::<Module>();
    let mut tree = BTreeMap::from([
        (module(""), source("mod a;\nmod b;\n", &["a", "b"])),
        (
            module("a"),
            source(
                "mod inner;\npub use inner::Thing;\nuse super::b::Other;\n",
                &["inner"],
            ),
        ),
        (module("a::inner"), source("pub struct Thing;\n", &[])),
        (
            module("b"),
            source(
                "pub struct Other;\n#[cfg(test)]\nmod tests {\n    use crate::a::Local;\n}\nfn f() -> crate::a::Thing {}\n",
                &[],
            ),
        ),
    ]);
    tree.get_mut(&module("a")).unwrap().exports = vec![(
        "Thing".to_owned(),
        vec!["inner".to_owned(), "Thing".to_owned()],
    )];
    let tree_without = Tree(tree);
    assert!(
        tree_without.circles().is_empty(),
        "a re-export is no import, nor is a test"
    );
    let Tree(mut tree) = tree_without;
    tree.get_mut(&module("b")).unwrap().code = "use crate::a::{self, Local};".to_owned();
    assert_eq!(Tree(tree).circles().len(), 1, "a and b import each other");
}
