//! The JSON Schema of module.toml, made from the types that read it; the same for other files of ours.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use schemars::transform::{RecursiveTransform, Transform as _};
use serde_json::Value;

use super::ManifestFile;

/// The JSON Schema (2020-12) of module.toml, for editors and other tools.
#[must_use]
pub fn json_schema() -> Value {
    schema_of::<ManifestFile>()
}

/// The schema of a file of ours, where every key is optional.
pub(crate) fn schema_of<F: JsonSchema>() -> Value {
    let mut schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<F>();
    RecursiveTransform(without_null).transform(&mut schema);
    schema.to_value()
}

/// TOML has no null: a key is there or it is not.
fn without_null(schema: &mut schemars::Schema) {
    let Some(object) = schema.as_object_mut() else { return };
    // The defaults of optional keys would all read null; the descriptions name the real ones.
    object.remove("default");
    if let Some(Value::Array(types)) = object.get_mut("type") {
        types.retain(|it| it != "null");
        if let [one] = types.as_slice() {
            let one = one.clone();
            object.insert("type".into(), one);
        }
    }
    if let Some(Value::Array(variants)) = object.get_mut("anyOf") {
        variants.retain(|it| it.get("type").is_none_or(|it| it != "null"));
        if let [one] = variants.as_mut_slice() {
            let one = one.take();
            object.remove("anyOf");
            if let Value::Object(one) = one {
                for (key, value) in one {
                    object.entry(key).or_insert(value);
                }
            }
        }
    }
}
