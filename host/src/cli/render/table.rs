//! Tables that fit the width of the terminal.
//!
//! A column is omitted if all of its cells have the default value. Cells that do not fit are continued
//! below their row, in full, so that they can be copied.

use super::text::{cut, fold, terminal_width, width};
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
    lead: &'static str,
    /// The value that is not worth showing.
    default: &'static str,
}

/// A column that is omitted if it is empty.
pub(super) const fn column(head: &'static str, lead: &'static str) -> Column {
    Column { head, lead, default: "" }
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

fn lines_in<const N: usize>(room: usize, columns: [Column; N], rows: &[[String; N]]) -> Vec<String> {
    let is_shown = |at: &usize| rows.iter().any(|row| !row[*at].is_empty() && row[*at] != columns[*at].default);
    let shown: Vec<usize> = (0..N).filter(is_shown).collect();
    let widths = |at: usize| rows.iter().map(move |row| width(&row[at]));
    let up_to =
        |most: usize, at: usize| widths(at).filter(|wide| *wide <= most).max().unwrap_or(0).max(columns[at].head.len());
    let natural = |at: usize| up_to(usize::MAX, at);
    let all: usize = shown.iter().map(|at| natural(*at) + GAP.len()).sum();
    let (mut main, mut below, mut used) = (Vec::new(), Vec::new(), 0);
    for at in shown {
        let wide = match main.as_slice() {
            _ if all <= room + GAP.len() => natural(at),
            [] => up_to(FIRST_MAX, at),
            _ => natural(at).min(CELL_MAX),
        };
        if main.is_empty() || used + wide <= room {
            used += wide + GAP.len();
            main.push((at, wide));
        } else {
            below.push(at);
        }
    }
    let mut lines = vec![line(main.iter().map(|(at, wide)| (columns[*at].head, *wide)))];
    for row in rows {
        let mut more = Vec::new();
        let mut cells = Vec::new();
        for (position, (at, wide)) in main.iter().enumerate() {
            let cell = if row[*at].is_empty() { "-" } else { row[*at].as_str() };
            if width(cell) <= *wide {
                cells.push((cell.to_owned(), *wide));
            } else if position == 0 {
                lines.push(cell.to_owned());
                cells.push((String::new(), *wide));
            } else {
                cells.push((cut(cell, *wide), *wide));
                more.push(format!("{}{cell}", columns[*at].lead));
            }
        }
        lines.push(line(cells.iter().map(|(cell, wide)| (cell.as_str(), *wide))));
        let folded = below.iter().filter(|at| !row[**at].is_empty() && row[**at] != columns[**at].default);
        more.extend(folded.map(|at| format!("{}{}", columns[*at].lead, row[*at])));
        if !more.is_empty() {
            let more = more.join(", ");
            lines.extend(fold(more.split(' '), " ", INDENT, INDENT));
        }
    }
    lines
}

fn line<'a>(cells: impl Iterator<Item = (&'a str, usize)>) -> String {
    let padded = cells.map(|(cell, wide)| format!("{cell}{}", " ".repeat(wide.saturating_sub(width(cell)))));
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
        assert!(shown.iter().all(|line| width(line) <= 80), "{shown:?}");
    }
}
