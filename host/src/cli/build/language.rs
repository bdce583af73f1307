//! The languages that `fastworker build` and `fastworker new` support, and how sources are recognized.

use std::{fmt, path::Path, str::FromStr};

/// A language of task modules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::cli) enum Language {
    Rust,
    Python,
    JavaScript,
    TypeScript,
    Go,
    C,
    Cpp,
    Zig,
}

impl Language {
    pub(in crate::cli) const ALL: [Self; 8] =
        [Self::Rust, Self::Python, Self::JavaScript, Self::TypeScript, Self::Go, Self::C, Self::Cpp, Self::Zig];

    /// Its short name, as `--lang` takes it.
    pub(in crate::cli) const fn as_str(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::Python => "python",
            Self::JavaScript => "js",
            Self::TypeScript => "ts",
            Self::Go => "go",
            Self::C => "c",
            Self::Cpp => "cpp",
            Self::Zig => "zig",
        }
    }

    /// Its name in text.
    pub(in crate::cli) const fn title(self) -> &'static str {
        match self {
            Self::Rust => "Rust",
            Self::Python => "Python",
            Self::JavaScript => "JavaScript",
            Self::TypeScript => "TypeScript",
            Self::Go => "Go",
            Self::C => "C",
            Self::Cpp => "C++",
            Self::Zig => "Zig",
        }
    }

    /// The folder of its SDK among the embedded ones, the same as below `guest-sdk/`.
    pub(in crate::cli) const fn sdk_name(self) -> &'static str {
        match self {
            Self::JavaScript | Self::TypeScript => "js",
            Self::C | Self::Cpp => "c",
            other => other.as_str(),
        }
    }

    /// The endings of its source files.
    pub(super) const fn endings(self) -> &'static [&'static str] {
        match self {
            Self::Rust => &["rs"],
            Self::Python => &["py"],
            Self::JavaScript => &["js", "mjs"],
            Self::TypeScript => &["ts", "mts"],
            Self::Go => &["go"],
            Self::C => &["c"],
            Self::Cpp => &["cpp", "cc", "cxx"],
            Self::Zig => &["zig"],
        }
    }

    /// The files that make a folder a project of this language, whatever else is in it.
    pub(super) const fn manifests(self) -> &'static [&'static str] {
        match self {
            Self::Rust => &["Cargo.toml"],
            Self::Python => &["pyproject.toml", "requirements.txt"],
            // Of both: the sources decide.
            Self::JavaScript => &["package.json"],
            Self::TypeScript => &["tsconfig.json"],
            Self::Go => &["go.mod"],
            Self::Zig => &["build.zig", "build.zig.zon"],
            Self::C | Self::Cpp => &[],
        }
    }

    /// The language of a source file, by the ending of its name.
    pub(in crate::cli) fn of_file(path: &Path) -> Option<Self> {
        let ending = path.extension()?.to_str()?.to_ascii_lowercase();
        Self::ALL.into_iter().find(|language| language.endings().contains(&ending.as_str()))
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.title())
    }
}

impl FromStr for Language {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim().to_ascii_lowercase();
        let is_named = |language: &Self| language.as_str() == text || language.title().to_ascii_lowercase() == text;
        let short = |language: &Self| match language {
            Self::Python => text == "py",
            Self::Rust => text == "rs",
            _ => false,
        };
        let found = Self::ALL.into_iter().find(|language| is_named(language) || short(language));
        found.ok_or_else(|| format!("choose one of {}", Self::ALL.map(Self::as_str).join(", ")))
    }
}
