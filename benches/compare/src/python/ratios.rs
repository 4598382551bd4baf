//! The best backend of Gearshift in relation to other servers.

use super::server::Server;
use crate::figure::Figure;
use crate::results::{Measure, Point, Ratio, Scenario, Spread};
use crate::winners::ranked;

/// The ratios at each point of a scenario that was measured on Gearshift and on another server.
pub fn of(scenario: &Scenario, servers: &[Server]) -> Vec<Ratio> {
    let Some(figure) = Figure::that_decides(scenario) else { return Vec::new() };
    scenario.points.iter().filter_map(|point| at(scenario, figure, point, servers)).collect()
}

fn at(scenario: &Scenario, figure: Figure, point: &Point, servers: &[Server]) -> Option<Ratio> {
    let own = |measure: &Measure| {
        servers.iter().any(|server| server.is_gearshift() && server.name() == measure.subject)
    };
    let ranked = ranked(figure, point);
    let (best, of_best) = ranked.iter().find(|(measure, _)| own(measure))?;
    let to = |name: &str| {
        let (_, other) = ranked.iter().find(|(measure, _)| measure.subject == name)?;
        Some(ratio(of_best, other))
    };
    let (other, of_other) = ranked.iter().find(|(measure, _)| !own(measure))?;
    Some(Ratio {
        scenario: scenario.title.clone(),
        point: point.label.clone(),
        figure: figure.id.into(),
        subject: best.subject.clone(),
        median: of_best.median,
        granian: to("granian"),
        uvicorn: to("uvicorn"),
        best_other: other.subject.clone(),
        to_best_other: Some(ratio(of_best, of_other)),
    })
}

/// The ratio in each round. The rounds are interleaved, so that a disturbance of one round affects both. If a server
/// lacks a round, the only ratio is that of the medians.
fn ratio(of: &Spread, to: &Spread) -> Spread {
    if of.values.len() != to.values.len() {
        return Spread::of(vec![of.median / to.median]);
    }
    Spread::of(of.values.iter().zip(&to.values).map(|(of, to)| of / to).collect())
}

#[cfg(test)]
mod tests {
    use gearshift::Backend;

    use super::*;

    fn measure(subject: &str, cpu: &[f64]) -> Measure {
        Measure {
            subject: subject.into(),
            rate: Spread::of(vec![1.0; cpu.len()]),
            cpu_user: Spread::of(cpu.to_vec()),
            cpu_system: Spread::of(vec![0.0; cpu.len()]),
            ..Measure::default()
        }
    }

    fn ratios(measures: Vec<Measure>) -> Vec<Ratio> {
        let point = Point { label: "64 connections".into(), measures, ..Point::default() };
        let scenario = Scenario { decides: "cpu".into(), points: vec![point], ..Scenario::default() };
        of(&scenario, &Server::all(Backend::available()))
    }

    #[test]
    fn the_best_backend_is_divided_by_each_server_round_by_round() {
        let found = ratios(vec![
            measure("gearshift-mio", &[40.0, 44.0, 30.0]),
            measure("gearshift-threadpool", &[60.0, 60.0, 60.0]),
            measure("granian", &[50.0, 50.0, 50.0]),
            measure("uvicorn", &[80.0, 100.0, 100.0]),
        ]);
        let [ratio] = found.as_slice() else { unreachable!("one point: {found:?}") };
        assert_eq!((ratio.subject.as_str(), ratio.median), ("gearshift-mio", 40.0));
        assert_eq!(ratio.best_other, "granian");
        let granian = ratio.granian.as_ref().expect("it was measured");
        assert_eq!(granian.values, [0.8, 0.88, 0.6]);
        assert_eq!(ratio.to_best_other.as_ref(), Some(granian));
        let uvicorn = ratio.uvicorn.as_ref().expect("it was measured");
        assert_eq!((uvicorn.min, uvicorn.median, uvicorn.max), (0.3, 0.44, 0.5));
    }

    #[test]
    fn there_is_no_ratio_without_another_server() {
        assert!(ratios(vec![measure("gearshift-mio", &[40.0])]).is_empty());
        assert!(ratios(vec![measure("granian", &[40.0])]).is_empty());
        let waitress = ratios(vec![measure("gearshift-mio", &[40.0]), measure("waitress", &[80.0, 80.0])]);
        assert_eq!((waitress[0].granian.as_ref(), waitress[0].best_other.as_str()), (None, "waitress"));
        let to_best = waitress[0].to_best_other.as_ref().map(|ratio| ratio.values.clone());
        assert_eq!(to_best, Some(vec![0.5]));
    }
}
