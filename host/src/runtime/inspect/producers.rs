//! The languages and tools that made a module, as its `producers` sections state them.

use super::super::sections::{self, Section};

/// The id of a core module inside of a component.
const CORE_MODULE: u8 = 1;
/// The id of a component inside of a component.
const COMPONENT: u8 = 4;
/// Maximum depth of nested components.
const DEPTH_MAX: u32 = 8;
/// Maximum modules that are read.
const MODULES_MAX: u32 = 1_000;
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
}

impl Producers {
    /// Reads all sections of a file, also those of the modules inside of it.
    pub(super) fn of(file: &[u8]) -> Self {
        let mut producers = Self::default();
        let mut modules = MODULES_MAX;
        producers.read(file, DEPTH_MAX, &mut modules);
        producers
    }

    /// The language of the module: the one that it states, else the one that its tools compile.
    pub fn language(&self) -> Option<String> {
        let by_tool = |tool: &str| {
            let languages = [
                ("componentize-py", "Python"),
                ("componentize-qjs", "JavaScript"),
                ("ComponentizeJS", "JavaScript"),
                ("componentize-js", "JavaScript"),
                ("TinyGo", "Go"),
                ("Go cmd/compile", "Go"),
                ("zig", "Zig"),
                ("clang", "C"),
            ];
            languages.iter().find(|(prefix, _)| tool.starts_with(prefix)).map(|(_, language)| (*language).to_owned())
        };
        // Tools that contain an interpreter are compiled from another language, which is not that of the tasks.
        let interpreted = self
            .tools
            .iter()
            .filter_map(|(tool, _)| by_tool(tool))
            .find(|it| ["Python", "JavaScript"].contains(&it.as_str()));
        let stated = || self.languages.first().map(|(language, _)| language.clone());
        interpreted.or_else(stated).or_else(|| self.tools.iter().find_map(|(tool, _)| by_tool(tool)))
    }

    fn read(&mut self, file: &[u8], depth: u32, modules: &mut u32) {
        // The version of a component is followed by a layer other than 0.
        let is_component = file.get(6..8) != Some(&[0, 0]);
        for section in sections::of(file) {
            if section.custom_name() == Some("producers") {
                self.read_section(section);
            } else if is_component && matches!(section.id, CORE_MODULE | COMPONENT) && depth > 0 && *modules > 0 {
                *modules -= 1;
                self.read(section.content, depth - 1, modules);
            }
        }
    }

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
        assert_eq!(producers.language().as_deref(), Some("Rust"));
    }

    #[test]
    fn an_interpreter_does_not_hide_the_language_of_the_tasks() {
        let file = core(&[section("language", "C11", ""), section("processed-by", "componentize-py", "0.25")].concat());
        assert_eq!(Producers::of(&file).language().as_deref(), Some("Python"));
    }

    #[test]
    fn sections_that_lie_about_their_length_end_the_reading() {
        let mut broken = section("language", "Rust", "1");
        *broken.last_mut().expect("bytes") = 0xff;
        broken[13] = 0x7f;
        assert_eq!(Producers::of(&core(&broken)), Producers::default());
    }
}
