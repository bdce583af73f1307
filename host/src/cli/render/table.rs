//! Tables that fit the width of the terminal.
//!
//! A column is omitted if all of its cells have the default value. Cells that do not fit are continued
//! below their row, in full, so that they can be copied.

use super::text::{display_width, terminal_width, truncate, wrap};
use crate::escape;

/// The gap between two columns.
const GAP: &str = "  ";
/// Indentation of the continuation below a row.
const INDENT: &str = "    ";
/// Maximum width of the first column. A wider cell is placed on a separate line.
const FIRST_MAX: usize = 36;
/// Maximum width of a cell in a table that does not fit. A wider cell is truncated, and printed in full below.
const CELL_MAX: usize = 24;

/// One column.
#[derive(Clone, Copy)]
pub(super) struct Column {
    head: &'static str,
    /// The label of a cell that is continued below its row.
    label: &'static str,
    /// The value that does not need to be shown.
    default: &'static str,
}

/// A column that is omitted if it is empty.
pub(super) const fn column(head: &'static str, label: &'static str) -> Column {
    Column { head, label, default: "" }
}

impl Column {
    /// Also omits the column if all cells have this value.
    pub(super) const fn unless(self, default: &'static str) -> Self {
        Self { default, ..self }
    }
}

/// Formats rows below the heads of their columns. An empty cell is shown as a dash.
pub(super) fn lines<const N: usize>(columns: [Column; N], rows: &[[String; N]]) -> Vec<String> {
    let rows: Vec<[String; N]> =
        rows.iter().map(|row| row.each_ref().map(|cell| escape::line(cell).into_owned())).collect();
    lines_in(terminal_width(), columns, &rows)
}

fn lines_in<const N: usize>(width_max: usize, columns: [Column; N], rows: &[[String; N]]) -> Vec<String> {
    let is_shown =
        |index: &usize| rows.iter().any(|row| !row[*index].is_empty() && row[*index] != columns[*index].default);
    let shown: Vec<usize> = (0..N).filter(is_shown).collect();
    let widths = |index: usize| rows.iter().map(move |row| display_width(&row[index]));
    let up_to = |limit: usize, index: usize| {
        widths(index).filter(|width| *width <= limit).max().unwrap_or(0).max(columns[index].head.len())
    };
    let natural = |index: usize| up_to(usize::MAX, index);
    let total: usize = shown.iter().map(|index| natural(*index) + GAP.len()).sum();
    let (mut main, mut below, mut used) = (Vec::new(), Vec::new(), 0);
    for index in shown {
        let width = match main.as_slice() {
            _ if total <= width_max + GAP.len() => natural(index),
            [] => up_to(FIRST_MAX, index),
            _ => natural(index).min(CELL_MAX),
        };
        if main.is_empty() || used + width <= width_max {
            used += width + GAP.len();
            main.push((index, width));
        } else {
            below.push(index);
        }
    }
    let mut lines = vec![line(main.iter().map(|(index, width)| (columns[*index].head, *width)))];
    for row in rows {
        let mut continuation = Vec::new();
        let mut cells = Vec::new();
        for (position, (index, width)) in main.iter().enumerate() {
            let cell = if row[*index].is_empty() { "-" } else { row[*index].as_str() };
            if display_width(cell) <= *width {
                cells.push((cell.to_owned(), *width));
            } else if position == 0 {
                lines.push(cell.to_owned());
                cells.push((String::new(), *width));
            } else {
                cells.push((truncate(cell, *width), *width));
                continuation.push(format!("{}{cell}", columns[*index].label));
            }
        }
        lines.push(line(cells.iter().map(|(cell, width)| (cell.as_str(), *width))));
        let continued =
            below.iter().filter(|index| !row[**index].is_empty() && row[**index] != columns[**index].default);
        continuation.extend(continued.map(|index| format!("{}{}", columns[*index].label, row[*index])));
        if !continuation.is_empty() {
            let continuation = continuation.join(", ");
            lines.extend(wrap(continuation.split(' '), " ", INDENT, INDENT));
        }
    }
    lines
}

fn line<'a>(cells: impl Iterator<Item = (&'a str, usize)>) -> String {
    let padded = cells.map(|(cell, width)| format!("{cell}{}", " ".repeat(width.saturating_sub(display_width(cell)))));
    padded.collect::<Vec<_>>().join(GAP).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 4] =
        [column("TASK", ""), column("NAME", "name "), column("ATTEMPTS", "attempt ").unless("1"), column("WHY", "")];

    fn row(cells: [&str; 4]) -> [String; 4] {
        cells.map(str::to_owned)
    }

    #[test]
    fn default_columns_are_omitted_and_empty_cells_are_dashes() {
        let rows = [row(["a", "größe", "1", ""]), row(["b", "", "1", ""])];
        assert_eq!(lines_in(80, COLUMNS, &rows), ["TASK  NAME", "a     größe", "b     -"]);
        let rows = [row(["a", "x", "2", ""]), row(["b", "y", "1", ""])];
        assert_eq!(lines_in(80, COLUMNS, &rows), ["TASK  NAME  ATTEMPTS", "a     x     2", "b     y     1"]);
    }

    #[test]
    fn cells_that_do_not_fit_are_continued_below_their_row() {
        let why = "not to my taste, and not to that of anybody else whom I have ever heard of";
        let rows = [row(["a", "x", "1", why]), row(["b", "y", "3", ""])];
        let shown = lines_in(40, COLUMNS, &rows);
        assert_eq!(shown[..2], ["TASK  NAME  ATTEMPTS", "a     x     1"]);
        assert!(shown[2].starts_with("    not to my taste"), "{shown:?}");
        assert_eq!(shown.last().map(String::as_str), Some("b     y     3"));
    }

    #[test]
    fn a_long_id_has_its_own_line_and_a_long_name_is_full_below() {
        let (id, name) = ("i".repeat(60), "n".repeat(60));
        let rows = [row([&id, &name, "1", ""]), row(["b", "y", "1", ""])];
        let shown = lines_in(80, COLUMNS, &rows);
        assert_eq!(shown[1], id);
        assert_eq!(shown[2].trim(), format!("{}…", "n".repeat(CELL_MAX - 1)));
        assert_eq!(shown[3], format!("{INDENT}name {name}"));
        assert!(shown.iter().all(|line| display_width(line) <= 80), "{shown:?}");
    }
}
