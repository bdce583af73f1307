//! The languages and tools that made a module, as its `producers` sections state them.

use super::super::sections::{self, Section};

/// The id of a core module inside of a component.
const CORE_MODULE: u8 = 1;
/// The id of a component inside of a component.
const COMPONENT: u8 = 4;
/// Maximum depth of nested components.
const DEPTH_MAX: u32 = 8;
/// Maximum modules that are read.
const MODULES_MAX: usize = 1_000;
/// Maximum entries that are kept.
const ENTRIES_MAX: usize = 100;
/// Maximum bytes of a name or a version; longer ones are ignored.
const TEXT_MAX: usize = 256;

/// The languages and tools of a module, in the order of the file, without repetitions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Producers {
    /// Languages, each with its version or an empty text.
    pub languages: Vec<(String, String)>,
    /// Compilers and other tools.
    pub tools: Vec<(String, String)>,
    /// SDKs.
    pub sdks: Vec<(String, String)>,
    /// The language of the tasks, if it is known.
    pub language: Option<String>,
}

impl Producers {
    /// Reads all sections of a file, also those of the modules inside of it.
    pub(super) fn of(file: &[u8]) -> Self {
        let mut modules = vec![ModuleProducers::default()];
        read(file, DEPTH_MAX, &mut modules, 0);
        let language = language(&modules);
        let mut producers = Self { language, ..Self::default() };
        for ModuleProducers { languages, tools, sdks, .. } in modules {
            let fields =
                [(&mut producers.languages, languages), (&mut producers.tools, tools), (&mut producers.sdks, sdks)];
            for (entries, found) in fields {
                let new: Vec<_> = found.into_iter().filter(|entry| !entries.contains(entry)).collect();
                entries.extend(new.into_iter().take(ENTRIES_MAX.saturating_sub(entries.len())));
            }
        }
        producers
    }
}

/// Adds a section to a component that states the language of its tasks, and a tool with its version.
#[cfg(feature = "cli")]
pub(crate) fn add_producers(component: &mut Vec<u8>, language: &str, tool: (&str, &str)) {
    let mut content = Vec::new();
    push_text(&mut content, "producers");
    content.push(2);
    for (field, name, version) in [("language", language, ""), ("processed-by", tool.0, tool.1)] {
        push_text(&mut content, field);
        content.push(1);
        push_text(&mut content, name);
        push_text(&mut content, version);
    }
    component.push(0);
    push_number(component, content.len());
    component.extend(content);
}

/// Appends a text: its length, then its bytes.
#[cfg(feature = "cli")]
fn push_text(out: &mut Vec<u8>, text: &str) {
    push_number(out, text.len());
    out.extend(text.as_bytes());
}

/// Appends a number in LEB128.
#[cfg(feature = "cli")]
fn push_number(out: &mut Vec<u8>, mut number: usize) {
    loop {
        let byte = u8::try_from(number & 0x7f).unwrap_or_default();
        number >>= 7;
        out.push(if number > 0 { byte | 0x80 } else { byte });
        if number == 0 {
            break;
        }
    }
}

/// What one module inside of a file states. The first is the file itself.
#[derive(Default)]
struct ModuleProducers {
    size: usize,
    languages: Vec<(String, String)>,
    tools: Vec<(String, String)>,
    sdks: Vec<(String, String)>,
}

/// The compilers that write C as the language of what they compile, because of its C library.
const COMPILERS: [(&str, &str); 3] = [("rustc", "Rust"), ("TinyGo", "Go"), ("Go cmd/compile", "Go")];

/// The language of the tasks: the one that the file itself states, else the one of its largest module, as the others are
/// adapters.
fn language(modules: &[ModuleProducers]) -> Option<String> {
    let (file, inner) = modules.split_first()?;
    let largest = inner.iter().max_by_key(|module| module.size);
    [Some(file), largest].into_iter().flatten().find_map(|module| {
        let is_c =
            |language: &str| language.strip_prefix('C').is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit()));
        let stated = || module.languages.iter().map(|(language, _)| language.as_str());
        let compiler = || {
            let is_used = |compiler: &str| module.tools.iter().any(|(tool, _)| tool == compiler);
            COMPILERS.iter().find(|(compiler, _)| is_used(compiler)).map(|(_, language)| *language)
        };
        let language = stated().find(|language| !is_c(language)).or_else(compiler).or_else(|| stated().next())?;
        Some(match language {
            name if name.starts_with("C_plus_plus") => "C++".to_owned(),
            name if is_c(name) => "C".to_owned(),
            name => name.to_owned(),
        })
    })
}

/// Reads the sections of a file as those of `modules[index]`, and adds the modules inside of it.
fn read(file: &[u8], depth: u32, modules: &mut Vec<ModuleProducers>, index: usize) {
    // The version of a component is followed by a layer other than 0.
    let is_component = file.get(6..8) != Some(&[0, 0]);
    for section in sections::of(file) {
        if section.custom_name() == Some("producers") {
            modules[index].read_section(section);
        } else if is_component
            && matches!(section.id, CORE_MODULE | COMPONENT)
            && depth > 0
            && modules.len() < MODULES_MAX
        {
            modules.push(ModuleProducers { size: section.content.len(), ..ModuleProducers::default() });
            let inner = modules.len() - 1;
            read(section.content, depth - 1, modules, inner);
        }
    }
}

impl ModuleProducers {
    /// Reads a section: a number of fields, each a name and a number of values with versions. What follows an error is
    /// ignored.
    fn read_section(&mut self, section: Section<'_>) -> Option<()> {
        let mut rest = section.content;
        sections::text(&mut rest)?;
        for _ in 0..sections::number(&mut rest)? {
            let field = sections::text(&mut rest)?;
            for _ in 0..sections::number(&mut rest)? {
                let (name, version) = (sections::text(&mut rest)?, sections::text(&mut rest)?);
                let entries = match field {
                    "language" => &mut self.languages,
                    "processed-by" => &mut self.tools,
                    "sdk" => &mut self.sdks,
                    _ => continue,
                };
                let entry = (name.to_owned(), version.to_owned());
                if entries.len() < ENTRIES_MAX && name.len() + version.len() <= TEXT_MAX && !entries.contains(&entry) {
                    entries.push(entry);
                }
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A custom section `producers` with one field and one value.
    fn section(field: &str, name: &str, version: &str) -> Vec<u8> {
        let text = |text: &str| [&[u8::try_from(text.len()).expect("short")][..], text.as_bytes()].concat();
        let content = [text("producers"), vec![1], text(field), vec![1], text(name), text(version)].concat();
        [&[0, u8::try_from(content.len()).expect("short")][..], &content].concat()
    }

    fn core(sections: &[u8]) -> Vec<u8> {
        [&b"\0asm\x01\0\0\0"[..], sections].concat()
    }

    #[test]
    fn producers_are_read_from_nested_modules_too() {
        let inner = core(&section("language", "Rust", "1.95"));
        let nested = [&[CORE_MODULE, u8::try_from(inner.len()).expect("short")][..], &inner].concat();
        let own = section("processed-by", "wit-component", "0.227");
        let component = [&b"\0asm\x0d\0\x01\0"[..], &nested, &nested, &own].concat();
        let producers = Producers::of(&component);
        assert_eq!(producers.languages, [("Rust".to_owned(), "1.95".to_owned())]);
        assert_eq!(producers.tools, [("wit-component".to_owned(), "0.227".to_owned())]);
        assert_eq!(producers.language.as_deref(), Some("Rust"));
    }

    #[test]
    fn the_language_is_that_of_the_file_or_of_its_largest_module() {
        let nested =
            |content: &[u8]| [&[CORE_MODULE, u8::try_from(content.len()).expect("short")][..], content].concat();
        let adapter = nested(&core(&section("language", "Rust", "")));
        let main = nested(&core(&[section("language", "C11", ""), section("language", "C_plus_plus_14", "")].concat()));
        let component = [&b"\0asm\x0d\0\x01\0"[..], &adapter, &main].concat();
        assert_eq!(Producers::of(&component).language.as_deref(), Some("C++"));
        let rust = core(&[section("language", "C99", ""), section("processed-by", "rustc", "1")].concat());
        assert_eq!(Producers::of(&rust).language.as_deref(), Some("Rust"));
        let stated = [&component[..], &section("language", "Python", "3.14")].concat();
        assert_eq!(Producers::of(&stated).language.as_deref(), Some("Python"));
        let unknown = [&b"\0asm\x0d\0\x01\0"[..], &adapter, &nested(&core(&[0; 90]))].concat();
        assert_eq!(Producers::of(&unknown).language, None);
    }

    #[test]
    fn an_added_section_is_read_back() {
        let mut component = b"\0asm\x0d\0\x01\0".to_vec();
        add_producers(&mut component, "Zig", ("fastworker", &"1".repeat(200)));
        let producers = Producers::of(&component);
        assert_eq!(producers.language.as_deref(), Some("Zig"));
        assert_eq!(producers.tools, [("fastworker".to_owned(), "1".repeat(200))]);
        assert!(sections::are_complete(&component));
    }

    #[test]
    fn sections_that_lie_about_their_length_end_the_reading() {
        let mut broken = section("language", "Rust", "1");
        *broken.last_mut().expect("bytes") = 0xff;
        broken[13] = 0x7f;
        assert_eq!(Producers::of(&core(&broken)), Producers::default());
    }
}
