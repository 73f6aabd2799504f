//! Publishing and withdrawing, with few services published beside and with many.

use xtask::Failure;
use xtask::artifacts::Artifacts;

use super::row::Row;
use super::times;
use super::world::World;

/// Services published beside those of `recorder`, which come and go.
const FEW: usize = 10;
const MANY: usize = 1000;

/// Services of one module: a module.toml lists no more than 256.
const OF_ONE: usize = 250;

pub fn rows(artifacts: &Artifacts, count: usize) -> Result<Vec<Row>, Failure> {
    let world = World::start(artifacts)?;
    provide(&world, "few", FEW)?;
    let few = measure(&world, FEW, count)?;
    provide(&world, "many-1", OF_ONE - FEW)?;
    for number in 2..=MANY / OF_ONE {
        provide(&world, &format!("many-{number}"), OF_ONE)?;
    }
    let many = measure(&world, MANY, count)?;
    world.end()?;
    let compared =
        many.iter().zip(&few).map(|(many, few)| many.clone().ratio(many.number("p50_ns"), few.number("p50_ns")));
    Ok(few.iter().cloned().chain(compared).collect())
}

/// A module of that name with so many services over HTTP.
fn provide(world: &World<'_>, name: &str, services: usize) -> Result<(), Failure> {
    let one =
        |number| format!("[[provides]]\nservice = \"{name}-{number}\"\nhttp = {{ prefix = \"/{name}/{number}\" }}\n\n");
    let provided: String = (0..services).map(one).collect();
    let edit = |text: String| {
        let (head, rest) = text.split_once("[[provides]]").unwrap_or((&text, ""));
        let (_, limits) = rest.split_once("[limits]").unwrap_or(("", rest));
        format!(
            "{}{provided}[limits]{limits}\n[configuration]\nonly-http = true\n",
            head.replace("name = \"recorder\"", &format!("name = \"{name}\""))
        )
    };
    world.install("recorder", "1.0.0", edit)?;
    world.ask(&["start", name])?;
    world.ask(&["publish", name])?;
    Ok(())
}

fn measure(world: &World<'_>, published: usize, count: usize) -> Result<[Row; 2], Failure> {
    let (mut publish, mut unpublish) = (Vec::new(), Vec::new());
    for _ in 0..count {
        for (command, took) in [("unpublish", &mut unpublish), ("publish", &mut publish)] {
            let operation = world.ask(&[command, "recorder"])?;
            took.push(times::whole(&operation).ok_or_else(|| format!("no times in {operation}"))?);
        }
    }
    Ok([("publish", publish), ("unpublish", unpublish)]
        .map(|(case, took)| Row::new(format!("{case}-{published}")).times(took)))
}
