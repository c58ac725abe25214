//! The import graph of the crates that ship, by their `use` lines: a circle may only join a module and its own
//! submodules. Test code is left out.

use std::collections::{BTreeMap, BTreeSet};

use super::{crates, files, read};

/// The name of a crate, then those of its modules.
type Module = Vec<String>;
/// The text of each module, and the modules that it imports from.
type Graph = BTreeMap<Module, BTreeSet<Module>>;

/// Removes comments, and what `#[cfg(test)]` covers: inline modules and single items.
fn shipped(source: &str) -> String {
    let code: Vec<_> = source.lines().map(|line| line.split("//").next().unwrap_or_default()).collect();
    let mut rest = code.join("\n");
    while let Some(at) = ["#[cfg(test)]", "#[cfg(any(test"].iter().filter_map(|mark| rest.find(mark)).min() {
        let end = end_of_item(&rest[at..]);
        rest.replace_range(at..at + end, "");
    }
    rest
}

/// Where an item ends: at its `;`, or at the brace that closes its first one.
fn end_of_item(text: &str) -> usize {
    let body = text.find(']').map_or(0, |end| end + 1);
    let mut depth = 0;
    for (at, letter) in text.char_indices().skip_while(|(at, _)| *at < body) {
        match letter {
            '{' => depth += 1,
            '}' if depth == 1 => return at + 1,
            '}' => depth -= 1,
            ';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The submodules that are declared for tests only, as `#[cfg(test)] mod tests;`.
fn test_modules(source: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, mark) in source.match_indices("#[cfg(") {
        let item = &source[at + mark.len()..];
        let Some((condition, item)) = item.split_once(")]") else { continue };
        if !condition.split(['(', ',', ' ']).any(|word| word == "test") {
            continue;
        }
        let words: Vec<_> = item.split_whitespace().take(3).collect();
        if let Some(at) = words.iter().position(|word| *word == "mod") {
            found.extend(words.get(at + 1).and_then(|name| name.strip_suffix(';')).map(str::to_owned));
        }
    }
    found
}

/// The paths of a `use` tree without renames: `a::{b, c::d}` is `a::b` and `a::c::d`.
fn paths(tree: &str) -> Vec<String> {
    let tree = tree.trim();
    let Some((prefix, list)) = tree.split_once('{') else {
        return vec![tree.split(" as ").next().unwrap_or_default().trim().to_owned()];
    };
    let list = list.rsplit_once('}').map_or(list, |(list, _)| list);
    let mut parts = vec![String::new()];
    let mut depth = 0;
    for letter in list.chars() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        match (letter, depth) {
            (',', 0) => parts.push(String::new()),
            _ => parts.last_mut().unwrap().push(letter),
        }
    }
    let parts = parts.iter().filter(|part| !part.trim().is_empty());
    parts.flat_map(|part| paths(part)).map(|path| format!("{}{path}", prefix.trim())).collect()
}

/// The trees of the `use` lines of a source.
fn uses(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, line) in source.match_indices("use ") {
        let before =
            source[..at].lines().last().filter(|_| !source[..at].ends_with('\n')).unwrap_or_default();
        let before = before.trim();
        if before.is_empty() || before.starts_with("pub") && !before.contains(';') {
            let tree = source[at + line.len()..].split(';').next().unwrap_or_default();
            // A line of a text may begin like this as well.
            if tree.chars().all(|letter| letter.is_alphanumeric() || "_:{},* \n".contains(letter)) {
                found.push(tree.to_owned());
            }
        }
    }
    found
}

/// The module that a path of a `use` line leads to.
fn resolve(path: &str, from: &Module, modules: &BTreeSet<Module>) -> Option<Module> {
    let mut segments = path.split("::").map(str::to_owned).peekable();
    let first = segments.peek()?.clone();
    let mut base = match first.as_str() {
        "crate" => vec![from[0].clone()],
        "self" | "super" => from.clone(),
        name if modules.iter().any(|module| module[0] == name) => vec![name.to_owned()],
        name if modules.contains(&[from.as_slice(), &[name.to_owned()]].concat()) => from.clone(),
        _ => return None,
    };
    if matches!(first.as_str(), "crate" | "self") || base == [first.clone()] {
        segments.next();
    }
    while segments.peek().is_some_and(|segment| segment == "super") {
        segments.next();
        base.pop();
    }
    for segment in segments {
        let longer = [base.as_slice(), &[segment]].concat();
        if !modules.contains(&longer) {
            break;
        }
        base = longer;
    }
    Some(base)
}

/// The graph of sources by module.
fn graph(sources: &BTreeMap<Module, String>) -> Graph {
    let mut for_tests: Vec<Module> = Vec::new();
    for (module, source) in sources {
        let names = test_modules(source).into_iter();
        for_tests.extend(names.map(|name| [module.as_slice(), &[name]].concat()));
    }
    let ships = |module: &Module| !for_tests.iter().any(|test| module.starts_with(test));
    let modules: BTreeSet<_> = sources.keys().filter(|module| ships(module)).cloned().collect();
    let imports = |module: &Module| {
        let all =
            uses(&shipped(&sources[module])).into_iter().flat_map(|tree| paths(&tree)).collect::<Vec<_>>();
        let targets = all.iter().filter_map(|path| resolve(path, module, &modules));
        targets.filter(|target| target != module && modules.contains(target)).collect()
    };
    modules.iter().map(|module| (module.clone(), imports(module))).collect()
}

fn reachable<'a>(graph: &'a Graph, from: &'a Module) -> BTreeSet<&'a Module> {
    let mut seen = BTreeSet::new();
    let mut next: Vec<&Module> = graph[from].iter().collect();
    while let Some(module) = next.pop() {
        if seen.insert(module) {
            next.extend(&graph[module]);
        }
    }
    seen
}

/// The strongly connected sets of more than one module that are not one module with its own submodules. All modules
/// are submodules of a crate's root, so that one excuses only a chain: no two others that are unrelated.
fn circles(graph: &Graph) -> Vec<Vec<String>> {
    let reach: BTreeMap<_, _> = graph.keys().map(|module| (module, reachable(graph, module))).collect();
    let mut sets = BTreeSet::new();
    for module in graph.keys() {
        let set: Vec<_> =
            reach[module].iter().filter(|other| reach[**other].contains(module)).copied().collect();
        if set.len() > 1 {
            sets.insert(set);
        }
    }
    let related = |a: &Module, b: &Module| a.starts_with(b) || b.starts_with(a);
    let family = |set: &&Vec<&Module>| {
        let parent =
            |parent: &Module| parent.len() > 1 && set.iter().all(|module| module.starts_with(parent));
        set.iter().any(|module| parent(module)) || set.iter().all(|a| set.iter().all(|b| related(a, b)))
    };
    sets.iter()
        .filter(|set| !family(set))
        .map(|set| set.iter().map(|module| module.join("::")).collect())
        .collect()
}

/// The sources of the crates that ship.
fn sources() -> BTreeMap<Module, String> {
    let mut found = BTreeMap::new();
    for (name, folder) in crates() {
        for file in files(&folder, &[".rs"]) {
            let path = file.strip_prefix(&folder).unwrap().with_extension("");
            let mut module = vec![name.clone()];
            module.extend(path.iter().map(|part| part.to_string_lossy().into_owned()));
            if module.last().is_some_and(|last| last == "mod" || last == "lib") {
                module.pop();
            }
            found.insert(module, read(&file));
        }
    }
    found
}

fn of(sources: &[(&str, &str)]) -> Graph {
    let module = |path: &str| path.split("::").map(str::to_owned).collect();
    graph(&sources.iter().map(|(path, source)| (module(path), (*source).to_owned())).collect())
}

#[test]
fn a_circle_of_modules_is_found_also_across_crates_and_through_groups() {
    let circle = of(&[
        ("core", "pub mod a;\npub mod b;"),
        ("core::a", "use crate::{b::{self, B}, text};"),
        ("core::b", "pub(crate) use super::c::C;"),
        ("core::c", "use std::fmt;\n\nuse crate::a::A as Other;"),
        ("operator", ""),
        ("operator::d", "use core::a::A;"),
    ]);
    assert_eq!(circles(&circle), [["core::a", "core::b", "core::c"]]);
    assert_eq!(circle[&vec!["operator".to_owned(), "d".to_owned()]].len(), 1, "an import of another crate");
}

#[test]
fn a_parent_and_its_submodules_are_no_circle_but_with_an_outsider_they_are() {
    let parent = ("core::plan", "mod create;\nuse create::step;");
    let child = ("core::plan::create", "use super::View;");
    assert!(circles(&of(&[("core", ""), parent, child])).is_empty());
    let outsider = ("core::status", "use crate::plan::View;");
    let child = ("core::plan::create", "use super::View;\nuse crate::status::Status;");
    let found = circles(&of(&[("core", ""), parent, child, outsider]));
    assert_eq!(found, [["core::plan", "core::plan::create", "core::status"]]);
}

#[test]
fn the_root_of_a_crate_excuses_no_circle_of_unrelated_modules() {
    let a = ("core::a", "use crate::Other;");
    assert!(circles(&of(&[("core", "pub use a::A;"), a])).is_empty());
    let found =
        circles(&of(&[("core", "pub use a::A;\npub use b::B;"), a, ("core::b", "use crate::Other;")]));
    assert_eq!(found, [["core", "core::a", "core::b"]]);
}

#[test]
fn test_code_imports_what_it_likes() {
    let tests = "use crate::b::B;";
    let graph = of(&[
        ("core", ""),
        (
            "core::a",
            "#[cfg(test)]\nmod tests;\n#[cfg(any(test, feature = \"fixtures\"))]\npub mod fixtures;\n\
                     #[cfg(test)]\nuse crate::b::B;\n// use crate::b::B;\n#[cfg(test)]\nmod inline {\n    use crate::b::B;\n}\n",
        ),
        ("core::a::tests", tests),
        ("core::a::tests::more", tests),
        ("core::a::fixtures", tests),
        ("core::b", "use crate::a::A;"),
    ]);
    assert!(circles(&graph).is_empty());
    assert_eq!(graph.len(), 3, "{graph:#?}");
}

#[test]
fn no_circle_of_imports_joins_more_than_a_module_and_its_submodules() {
    let circles = circles(&graph(&sources()));
    assert!(circles.is_empty(), "{circles:#?}");
}

#[test]
fn the_graph_covers_every_crate_that_ships() {
    let graph = graph(&sources());
    for (name, _) in crates() {
        let imports = graph.iter().filter(|(module, _)| module[0] == name).map(|(_, imports)| imports.len());
        assert!(imports.sum::<usize>() > 0, "{name} imports nothing");
    }
}
