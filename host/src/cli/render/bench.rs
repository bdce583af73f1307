//! Output of `fastworker bench`.

use comfy_table::{Table, presets};
use serde::Serialize;

use super::{
    CommandResult,
    output::{print_escaped, print_json},
};
use crate::{
    bench::{Bound, Measurement, Plan},
    task::SerializationFormat,
};

/// Prints the measurements.
pub(in crate::cli) fn print_measurements(rows: &[Measurement], plan: &Plan, json: bool) -> CommandResult {
    if json {
        #[derive(Serialize)]
        struct MeasurementsJson<'a> {
            version: &'static str,
            cores: usize,
            format: SerializationFormat,
            slots: usize,
            rounds: usize,
            rows: &'a [Measurement],
        }
        print_json(&MeasurementsJson {
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
    // A cluster that was already running has no baselines.
    let is_compared = rows.iter().any(|row| row.bound.is_some() || row.ratio.is_some());
    let header = ["CASE", "MEASURED", "RATIO", "BOUND", ""];
    table.load_style(presets::NOTHING).set_header(&header[..if is_compared { 5 } else { 2 }]);
    for row in rows {
        let digits = usize::from(row.value < 100.0);
        let ratio = row.ratio.zip(row.baseline.as_ref()).map(|(ratio, baseline)| format!("{ratio:.2} x {baseline}"));
        let bound = row.bound.map(|bound| match bound {
            Bound::AtMost(bound) => format!("<= {bound}"),
            Bound::AtLeast(bound) => format!(">= {bound}"),
        });
        let result_text = row.meets_bound().map(|is_met| if is_met { "ok" } else { "missed" });
        let cells = [
            row.case.clone(),
            format!("{:.digits$} {}", row.value, row.unit.replace("us", "µs")),
            ratio.unwrap_or_default(),
            bound.unwrap_or_default(),
            result_text.unwrap_or_default().to_owned(),
        ];
        table.add_row(cells.into_iter().take(if is_compared { 5 } else { 2 }));
    }
    print_escaped(table.trim_fmt());
    Ok(0)
}
