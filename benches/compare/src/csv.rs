//! Renders the results as `results.csv`: a line per load and server, with the median, minimum and maximum of each
//! figure.

use crate::results::{Measure, Point, Results, Scenario, Spread};

/// A name and the figure; each figure has the columns median, minimum and maximum.
type Figure = (&'static str, fn(&Measure) -> Spread);

const FIGURES: [Figure; 13] = [
    ("rate", |measure| measure.rate.clone()),
    ("p50_us", |measure| measure.latency.p50.clone()),
    ("p90_us", |measure| measure.latency.p90.clone()),
    ("p99_us", |measure| measure.latency.p99.clone()),
    ("p999_us", |measure| measure.latency.p999.clone()),
    ("max_us", |measure| measure.latency.max.clone()),
    ("cpu_us", Measure::cpu),
    ("cpu_user_us", |measure| measure.cpu_user.clone()),
    ("cpu_system_us", |measure| measure.cpu_system.clone()),
    ("switches", |measure| measure.switches.clone()),
    ("threads", |measure| measure.threads.clone()),
    ("peak_rss_kib", |measure| measure.peak_rss.clone()),
    ("idle_bytes", |measure| measure.idle_bytes.clone().unwrap_or_default()),
];

/// Renders all results.
///
/// # Errors
/// None in practice, because the writer writes to memory.
pub fn render(results: &Results) -> Result<Vec<u8>, csv::Error> {
    let mut csv = csv::Writer::from_writer(Vec::new());
    let mut head: Vec<String> =
        ["scenario", "point", "x", "connections", "offered", "path", "subject"].map(String::from).into();
    head.extend(FIGURES.iter().flat_map(|(name, _)| ["", "_min", "_max"].map(|end| format!("{name}{end}"))));
    head.extend(["cpu_ticks", "errors", "unanswered", "generator_bound", "skipped"].map(String::from));
    csv.write_record(&head)?;
    for scenario in &results.scenarios {
        for point in &scenario.points {
            for measure in &point.measures {
                csv.write_record(line(scenario, point, measure))?;
            }
        }
    }
    csv.into_inner().map_err(|error| error.into_error().into())
}

fn line(scenario: &Scenario, point: &Point, measure: &Measure) -> Vec<String> {
    let offered = point.offered.map(|rate| rate.to_string()).unwrap_or_default();
    let mut line = vec![
        scenario.id.clone(),
        point.label.clone(),
        point.x.to_string(),
        point.connections.to_string(),
        offered,
        point.path.clone(),
        measure.subject.clone(),
    ];
    for (_, figure) in FIGURES {
        let spread = figure(measure);
        line.extend(if spread.values.is_empty() {
            Default::default()
        } else {
            [spread.median, spread.min, spread.max].map(|value| format!("{value:.3}"))
        });
    }
    line.extend([
        measure.ticks.to_string(),
        measure.errors.to_string(),
        format!("{:.4}", measure.unanswered),
    ]);
    line.extend([measure.generator_bound.to_string(), measure.skipped.clone().unwrap_or_default()]);
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_has_each_column() {
        let measure =
            Measure { subject: "a, \"b\"".into(), rate: Spread::of(vec![3.0, 1.0]), ..Measure::default() };
        let point = Point { label: "1 connection".into(), measures: vec![measure], ..Point::default() };
        let scenario = Scenario { id: "plain".into(), points: vec![point], ..Scenario::default() };
        let results = Results { scenarios: vec![scenario], ..Results::default() };
        let file =
            String::from_utf8(render(&results).expect("writing to memory cannot fail")).expect("UTF-8");
        let lines: Vec<&str> = file.lines().collect();
        assert!(
            lines[0].starts_with("scenario,point,x,connections,offered,path,subject,rate,rate_min,rate_max,")
        );
        assert!(
            lines[1].starts_with("plain,1 connection,0,0,,,\"a, \"\"b\"\"\",2.000,1.000,3.000,,"),
            "{file}"
        );
        let columns = lines[0].split(',').count();
        assert_eq!(lines[1].split(',').count(), columns + 1, "one comma is within quotes: {file}");
    }
}
