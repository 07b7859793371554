//! The JSON Schema of a plan.

use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::PlanSpec;

/// The JSON Schema (draft 2020-12) of a plan as it is written, generated from the model that reads
/// it: for editors, and for programs and agents that write plans.
///
/// ```
/// let schema = orch_model::plan::schema();
/// assert_eq!(schema["title"], "orch plan");
/// assert!(schema["properties"]["task"].is_object());
/// ```
#[must_use]
pub fn schema() -> Value {
    let mut schema =
        SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<PlanSpec>();
    schema.insert("title".into(), "orch plan".into());
    schema.to_value()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every object of the schema that has properties, by name.
    fn objects(schema: &Value) -> Vec<(String, &Value)> {
        let definitions = schema["$defs"].as_object().expect("definitions");
        let named = definitions.iter().map(|(name, value)| (name.clone(), value));
        std::iter::once(("PlanSpec".to_owned(), schema))
            .chain(named)
            .filter(|(_, value)| value["properties"].is_object())
            .collect()
    }

    #[test]
    fn every_property_is_described() {
        let schema = schema();
        assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
        assert!(schema["description"].as_str().is_some_and(|text| text.contains("version 1")));
        let objects = objects(&schema);
        assert_eq!(
            objects.len(),
            12,
            "plan, run, budget, defaults, merge, agent, its models, its servers, rule, epic, task and lock"
        );
        for (name, object) in objects {
            assert_eq!(object["additionalProperties"], false, "{name} takes unknown keys");
            for (key, property) in object["properties"].as_object().unwrap() {
                let is_described =
                    property["description"].as_str().is_some_and(|text| !text.is_empty());
                assert!(is_described, "{name}.{key} has no description");
            }
        }
    }

    /// serde tells its keys when it meets an unknown one.
    #[cfg(feature = "parse")]
    #[test]
    fn the_schema_has_the_keys_that_serde_accepts() {
        use std::collections::BTreeSet;

        use crate::plan::{Format, parse};

        let places = [
            ("PlanSpec", "zzzz = 1"),
            ("RunSpec", "run.zzzz = 1"),
            ("DefaultsSpec", "defaults.zzzz = 1"),
            ("AgentSpec", "agents.a.zzzz = 1"),
            ("Models", "agents.a.models.zzzz = 1"),
            ("EventRule", "agents.a.events = [{ zzzz = 1 }]"),
            ("EpicSpec", "epic = [{ zzzz = 1 }]"),
            ("TaskSpec", "task = [{ zzzz = 1 }]"),
            ("LockTable", "task = [{ locks = [{ zzzz = 1 }] }]"),
        ];
        let schema = schema();
        let objects = objects(&schema);
        for (name, text) in places {
            let (_, object) = objects.iter().find(|(found, _)| found == name).expect(name);
            let of_schema: BTreeSet<&str> =
                object["properties"].as_object().unwrap().keys().map(String::as_str).collect();
            let problems = parse(text, Format::Toml).unwrap_err();
            let help = problems
                .iter()
                .find(|problem| problem.message == "unknown key `zzzz`")
                .and_then(|problem| problem.help.as_deref())
                .expect(name);
            let of_serde: BTreeSet<&str> = help.split('`').skip(1).step_by(2).collect();
            assert_eq!(of_schema, of_serde, "{name}");
        }
    }
}
