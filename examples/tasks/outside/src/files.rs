//! Environment and files.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::{env, fs, io};

use fastworker_guest::task;

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn text(error: io::Error) -> String {
    error.to_string()
}

/// All environment variables.
#[task]
fn environment() -> BTreeMap<String, String> {
    env::vars().collect()
}

/// The content of a file.
#[task]
fn read_file(path: &str) -> Result<String, String> {
    fs::read_to_string(path).map_err(text)
}

/// Writes a file.
#[task]
fn write_file(path: &str, content: &str) -> Result<(), String> {
    fs::write(path, content).map_err(text)
}

/// The names in a folder, sorted.
#[task]
fn list_folder(path: &str) -> Result<Vec<String>, String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path).map_err(text)? {
        names.push(entry.map_err(text)?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// Changes a folder in one of the ways of the file system: `link`, `rename`, `remove`, `create-folder`, `truncate`.
#[task]
fn change(way: &str, path: &str, other: &str) -> Result<(), String> {
    match way {
        "link" => fs::hard_link(path, other),
        "rename" => fs::rename(path, other),
        "remove" => fs::remove_file(path),
        "create-folder" => fs::create_dir(path),
        "truncate" => fs::OpenOptions::new().write(true).truncate(true).open(path).map(drop),
        _ => Err(io::Error::from(io::ErrorKind::InvalidInput)),
    }
    .map_err(text)
}

/// Reads a file again and again, and returns the different contents and errors.
#[task]
fn read_often(path: &str, times: u32) -> BTreeMap<String, u32> {
    let mut seen = BTreeMap::new();
    for _ in 0..times {
        let got = fs::read_to_string(path).unwrap_or_else(|error| format!("error: {:?}", error.kind()));
        *seen.entry(got).or_default() += 1;
    }
    seen
}

/// Writes to a file until it cannot, and returns the number of bytes and the error.
#[task]
fn fill(path: &str, max: u64) -> Result<(u64, String), String> {
    let mut file = fs::File::create(path).map_err(text)?;
    let block = vec![b'x'; 64 << 10];
    let mut written = 0;
    while written < max {
        if let Err(error) = file.write_all(&block).and_then(|()| file.flush()) {
            return Ok((written, text(error)));
        }
        written += block.len() as u64;
    }
    Ok((written, String::new()))
}

/// Opens a file many times at once, and returns how often it could.
#[task]
fn open_often(path: &str, times: usize) -> (usize, String) {
    let mut open = Vec::new();
    while open.len() < times {
        match fs::File::open(Path::new(path)) {
            Ok(file) => open.push(file),
            Err(error) => return (open.len(), text(error)),
        }
    }
    (open.len(), String::new())
}
