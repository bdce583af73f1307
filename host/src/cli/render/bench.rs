//! The table of `fastworker bench`.

use comfy_table::{Table, presets};
use serde::Serialize;

use super::{Outcome, out, out_json};
use crate::{
    bench::{Must, Plan, Row},
    task::SerializationFormat,
};

/// Prints the measurements.
pub(in crate::cli) fn bench(rows: &[Row], plan: &Plan, json: bool) -> Outcome {
    if json {
        #[derive(Serialize)]
        struct Measured<'a> {
            version: &'static str,
            cores: usize,
            format: SerializationFormat,
            slots: usize,
            rounds: usize,
            rows: &'a [Row],
        }
        out_json(&Measured {
            version: env!("CARGO_PKG_VERSION"),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            format: plan.format,
            slots: plan.slots,
            rounds: plan.rounds,
            rows,
        })?;
        return Ok(0);
    }
    let mut table = Table::new();
    // A cluster that was running already is not compared with anything.
    let is_compared = rows.iter().any(|row| row.must.is_some() || row.ratio.is_some());
    let header = ["CASE", "MEASURED", "RATIO", "MUST", ""];
    table.load_style(presets::NOTHING).set_header(&header[..if is_compared { 5 } else { 2 }]);
    for row in rows {
        let digits = usize::from(row.value < 100.0);
        let ratio = row.ratio.zip(row.against.as_ref()).map(|(ratio, against)| format!("{ratio:.2} x {against}"));
        let must = row.must.map(|must| match must {
            Must::AtMost(bound) => format!("<= {bound}"),
            Must::AtLeast(bound) => format!(">= {bound}"),
        });
        let holds = row.holds().map(|holds| if holds { "ok" } else { "short" });
        let cells = [
            row.case.clone(),
            format!("{:.digits$} {}", row.value, row.unit.replace("us", "µs")),
            ratio.unwrap_or_default(),
            must.unwrap_or_default(),
            holds.unwrap_or_default().to_owned(),
        ];
        table.add_row(cells.into_iter().take(if is_compared { 5 } else { 2 }));
    }
    out(table.trim_fmt());
    Ok(0)
}
