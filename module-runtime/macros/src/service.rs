//! What `#[service]` accepts: a plain trait whose methods take owned values and answer with a `Result`. Everything else is
//! refused with the reason, all faults at once.

use std::collections::HashMap;

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote};
use syn::spanned::Spanned;
use syn::{
    Attribute, FnArg, GenericArgument, Ident, ItemTrait, LitStr, Pat, PathArguments, ReturnType, Signature, TraitItem,
    TraitItemFn, Type, Visibility,
};

/// A trait that is a service, checked.
pub struct Service {
    /// The trait's attributes, its documentation among them.
    pub attributes: Vec<Attribute>,
    pub visibility: Visibility,
    pub ident: Ident,
    /// What the trait asks for beside what every service needs.
    pub supertraits: TokenStream,
    pub name: String,
    pub error: Type,
    pub methods: Vec<Method>,
}

/// A method of it.
pub struct Method {
    pub attributes: Vec<Attribute>,
    pub ident: Ident,
    /// Its name on the wire.
    pub name: String,
    pub id: u32,
    pub form: Form,
    pub repeat: Repeat,
    pub arguments: Vec<Argument>,
    pub result: Type,
}

/// How a method is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Async,
    Plain,
}

/// Whether a method may be executed twice.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    AtMostOnce,
    Idempotent,
}

/// An argument of a method.
pub struct Argument {
    /// `#[serde(…)]` attributes, for the field that carries it.
    pub attributes: Vec<Attribute>,
    pub ident: Ident,
    pub kind: Type,
}

/// What the generated client has itself.
const RESERVED: [&str; 5] = ["with_timeout", "with_deadline", "without_deadline", "with_tags", "caller"];

/// Collects every fault, so that one compilation shows them all.
#[derive(Default)]
struct Faults(Option<syn::Error>);

impl Faults {
    fn add(&mut self, at: impl ToTokens, message: impl std::fmt::Display) {
        self.push(syn::Error::new_spanned(at, message));
    }

    fn push(&mut self, error: syn::Error) {
        match &mut self.0 {
            Some(faults) => faults.combine(error),
            none => *none = Some(error),
        }
    }

    fn end<T>(self, value: Option<T>) -> syn::Result<T> {
        match (self.0, value) {
            (Some(error), _) => Err(error),
            (None, Some(value)) => Ok(value),
            (None, None) => Err(syn::Error::new(Span::call_site(), "this is not a service")),
        }
    }
}

impl Service {
    /// Checks the attribute's arguments and the trait.
    pub fn parse(attributes: TokenStream, item: TokenStream) -> syn::Result<Self> {
        let item: ItemTrait =
            syn::parse2(item).map_err(|e| syn::Error::new(e.span(), format!("#[service] stands on a trait: {e}")))?;
        let mut faults = Faults::default();
        let (name, error) = parse_attributes(attributes, &mut faults);
        check_trait(&item, &mut faults);
        let mut methods = Vec::new();
        for part in &item.items {
            match part {
                TraitItem::Fn(method) => methods.extend(Method::parse(method, error.as_ref(), &mut faults)),
                other => faults.add(other, "a service has only methods: this cannot be called from another process"),
            }
        }
        if item.items.is_empty() {
            faults.add(&item.ident, "a service has at least one method");
        }
        check_ids(&methods, &mut faults);
        let supertraits = item.supertraits.to_token_stream();
        let service = name.zip(error).map(|(name, error)| Self {
            attributes: item.attrs,
            visibility: item.vis,
            ident: item.ident,
            supertraits,
            name,
            error,
            methods,
        });
        faults.end(service)
    }
}

fn parse_attributes(attributes: TokenStream, faults: &mut Faults) -> (Option<String>, Option<Type>) {
    const FORM: &str = "write #[service(name = \"the-name\", error = TheErrorType)]";
    let (mut name, mut error) = (None, None);
    let span = attributes.span();
    let parser = syn::meta::parser(|meta| {
        if meta.path.is_ident("name") {
            let text: LitStr = meta.value()?.parse()?;
            check_name(&text)?;
            name = Some(text.value());
            Ok(())
        } else if meta.path.is_ident("error") {
            error = Some(meta.value()?.parse()?);
            Ok(())
        } else {
            Err(meta.error(format!("unknown key: {FORM}")))
        }
    });
    if let Err(error) = syn::parse::Parser::parse2(parser, attributes) {
        faults.push(error);
    } else {
        for (key, missing) in [("name", name.is_none()), ("error", error.is_none())] {
            if missing {
                faults.push(syn::Error::new(span, format!("`{key}` is missing: {FORM}")));
            }
        }
    }
    (name, error)
}

fn check_name(text: &LitStr) -> syn::Result<()> {
    let name = text.value();
    let letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let good = (1..=63).contains(&name.len())
        && name.as_bytes()[0].is_ascii_lowercase()
        && name.bytes().all(letter)
        && !name.ends_with('-');
    if good {
        return Ok(());
    }
    let message = format!("{name:?} is not a name: 1 to 63 of a-z, 0-9 and '-', a letter first, no '-' last");
    Err(syn::Error::new_spanned(text, message))
}

fn check_trait(item: &ItemTrait, faults: &mut Faults) {
    if !item.generics.params.is_empty() || item.generics.where_clause.is_some() {
        let at = if item.generics.params.is_empty() {
            item.generics.where_clause.to_token_stream()
        } else {
            item.generics.params.to_token_stream()
        };
        faults.add(at, "a service has no generics: both sides must agree on every type without seeing each other");
    }
    if let Some(token) = item.unsafety {
        faults.add(token, "a service is not unsafe: its callers are other processes");
    }
    if let Some(token) = item.auto_token {
        faults.add(token, "a service is not an auto trait");
    }
}

fn check_ids(methods: &[Method], faults: &mut Faults) {
    let mut known: HashMap<u32, &Method> = HashMap::new();
    for method in methods {
        let Some(other) = known.insert(method.id, method) else { continue };
        let message = if other.name == method.name {
            format!("the method `{}` is there twice", method.name)
        } else {
            format!(
                "`{}` and `{}` have the same 32-bit hash {:#010x}, by which calls are told apart: rename one of them",
                other.name, method.name, method.id
            )
        };
        faults.add(&method.ident, message);
    }
}

impl Method {
    fn parse(method: &TraitItemFn, error: Option<&Type>, faults: &mut Faults) -> Option<Self> {
        let signature = &method.sig;
        let name = signature.ident.to_string().trim_start_matches("r#").to_owned();
        check_signature(signature, &name, faults);
        if let Some(body) = &method.default {
            faults.add(
                body,
                format!("`{name}` must not have a body: callers get it from the module that provides the service"),
            );
        }
        let mut repeat = Repeat::AtMostOnce;
        let mut attributes = Vec::new();
        for attribute in &method.attrs {
            if !attribute.path().is_ident("idempotent") {
                attributes.push(attribute.clone());
            } else if let syn::Meta::Path(_) = attribute.meta {
                repeat = Repeat::Idempotent;
            } else {
                faults.add(attribute, "#[idempotent] takes no arguments");
            }
        }
        let mut inputs = signature.inputs.iter();
        check_receiver(inputs.next(), signature, faults);
        let arguments = inputs.filter_map(|it| Argument::parse(it, faults)).collect();
        let result = parse_result(&signature.output, signature, error, faults)?;
        let form = if signature.asyncness.is_some() { Form::Async } else { Form::Plain };
        let id = method_id(&name);
        Some(Self { attributes, ident: signature.ident.clone(), name, id, form, repeat, arguments, result })
    }
}

fn check_signature(signature: &Signature, name: &str, faults: &mut Faults) {
    if !signature.generics.params.is_empty() || signature.generics.where_clause.is_some() {
        faults.add(
            &signature.generics,
            format!("`{name}` must not be generic: both sides must agree on every type without seeing each other"),
        );
    }
    let odd = [
        signature.unsafety.map(|it| it.to_token_stream()),
        signature.constness.map(|it| it.to_token_stream()),
        signature.abi.as_ref().map(ToTokens::to_token_stream),
        signature.variadic.as_ref().map(ToTokens::to_token_stream),
    ];
    for token in odd.into_iter().flatten() {
        faults.add(&token, format!("`{name}` is called from another process: `{token}` cannot be kept there"));
    }
    if RESERVED.contains(&name) {
        faults.add(&signature.ident, format!("`{name}` is a function that every client has: choose another name"));
    }
}

fn check_receiver(first: Option<&FnArg>, signature: &Signature, faults: &mut Faults) {
    let good = match first {
        Some(FnArg::Receiver(it)) => {
            it.reference.as_ref().is_some_and(|(_, lifetime)| lifetime.is_none())
                && it.mutability.is_none()
                && it.colon_token.is_none()
        }
        Some(FnArg::Typed(_)) | None => false,
    };
    if !good {
        let at = first.map_or_else(|| signature.ident.to_token_stream(), ToTokens::to_token_stream);
        let message = format!(
            "`{}` must take `&self`: calls of many callers run at the same time (state that changes lives in a Mutex or the like)",
            signature.ident
        );
        faults.add(at, message);
    }
}

fn parse_result(output: &ReturnType, signature: &Signature, error: Option<&Type>, faults: &mut Faults) -> Option<Type> {
    let expected = error.map_or_else(|| "TheErrorType".to_owned(), |it| quote!(#it).to_string());
    let message = format!("`{}` must answer with `Result<…, {expected}>`", signature.ident);
    let found = match output {
        ReturnType::Default => {
            faults.add(&signature.ident, message);
            return None;
        }
        ReturnType::Type(_, found) => found.as_ref(),
    };
    let Some([result, found_error]) = result_types(found) else {
        faults.add(found, message);
        return None;
    };
    if error.is_some_and(|it| it != &found_error) {
        faults.add(&found_error, format!("{message}: one error type for all methods of a service"));
        return None;
    }
    Some(result)
}

/// The two types of a `Result`.
fn result_types(found: &Type) -> Option<[Type; 2]> {
    let Type::Path(path) = found else { return None };
    let last = path.path.segments.last().filter(|it| it.ident == "Result")?;
    let PathArguments::AngleBracketed(arguments) = &last.arguments else { return None };
    let mut types = arguments.args.iter().filter_map(|it| match it {
        GenericArgument::Type(it) => Some(it.clone()),
        _ => None,
    });
    let both = [types.next()?, types.next()?];
    (arguments.args.len() == 2).then_some(both)
}

impl Argument {
    fn parse(input: &FnArg, faults: &mut Faults) -> Option<Self> {
        let FnArg::Typed(typed) = input else { return None };
        let Pat::Ident(pattern) = typed.pat.as_ref() else {
            faults.add(&typed.pat, "an argument is a plain name: the name is what carries it between versions");
            return None;
        };
        if pattern.by_ref.is_some() || pattern.mutability.is_some() || pattern.subpat.is_some() {
            faults.add(pattern, "an argument is a plain name: the name is what carries it between versions");
        }
        match typed.ty.as_ref() {
            Type::Reference(it) => {
                faults.add(it, "an argument is an owned value (String, Vec<u8>, …): it comes from another process")
            }
            Type::ImplTrait(it) => faults.add(it, "an argument has one type that both sides know"),
            _ => {}
        }
        for attribute in &typed.attrs {
            if !attribute.path().is_ident("serde") {
                faults
                    .add(attribute, "only #[serde(…)] may stand on an argument: it goes to the field that carries it");
            }
        }
        Some(Self { attributes: typed.attrs.clone(), ident: pattern.ident.clone(), kind: typed.ty.as_ref().clone() })
    }
}

/// The 32-bit FNV-1a hash of a method's name: the same as `module_runtime::Method::new` computes.
pub fn method_id(name: &str) -> u32 {
    name.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use quote::quote;

    use super::*;

    fn faults(item: TokenStream) -> Vec<String> {
        faults_with(quote!(name = "spell", error = E), item)
    }

    fn faults_with(attributes: TokenStream, item: TokenStream) -> Vec<String> {
        match Service::parse(attributes, item) {
            Ok(_) => Vec::new(),
            Err(error) => error.into_iter().map(|it| it.to_string()).collect(),
        }
    }

    #[track_caller]
    fn refused(item: TokenStream, expected: &str) {
        let found = faults(item);
        assert!(found.len() == 1 && found[0].contains(expected), "{found:?} does not say {expected:?}");
    }

    #[test]
    fn a_good_trait_is_taken_as_it_is() {
        let service = Service::parse(
            quote!(name = "spell", error = E),
            quote! {
                pub trait Spell: Debug {
                    /// Checks.
                    #[idempotent]
                    async fn check(&self, words: Vec<String>, #[serde(default)] most: u32) -> Result<Vec<Finding>, E>;
                    fn r#loop(&self) -> std::result::Result<(), E>;
                }
            },
        );
        let service = service.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(service.name, "spell");
        let [check, other] = &service.methods[..] else { panic!("two methods") };
        assert!(check.form == Form::Async && check.repeat == Repeat::Idempotent && check.attributes.len() == 1);
        assert_eq!(check.arguments.iter().map(|it| it.ident.to_string()).collect::<Vec<_>>(), ["words", "most"]);
        assert_eq!(check.arguments[1].attributes.len(), 1);
        assert!(other.form == Form::Plain && other.repeat == Repeat::AtMostOnce && other.name == "loop");
    }

    #[test]
    fn method_ids_are_fnv_1a() {
        assert_eq!((method_id(""), method_id("a"), method_id("foobar")), (0x811c_9dc5, 0xe40c_292c, 0xbf9c_f968));
    }

    #[test]
    fn generics_are_refused() {
        refused(
            quote!(
                trait S<T> {
                    fn a(&self) -> Result<(), E>;
                }
            ),
            "a service has no generics",
        );
        refused(
            quote!(
                trait S where
                    u8: Copy,
                {
                    fn a(&self) -> Result<(), E>;
                }
            ),
            "a service has no generics",
        );
        refused(
            quote!(
                trait S {
                    fn a<T>(&self, t: T) -> Result<(), E>;
                }
            ),
            "`a` must not be generic",
        );
    }

    #[test]
    fn a_receiver_other_than_a_shared_self_is_refused() {
        for receiver in
            [quote!(), quote!(self), quote!(&mut self), quote!(&'static self), quote!(self: Arc<Self>), quote!(x: u8)]
        {
            refused(quote!(trait S { fn a(#receiver) -> Result<(), E>; }), "`a` must take `&self`");
        }
    }

    #[test]
    fn a_result_other_than_the_services_own_is_refused() {
        refused(
            quote!(
                trait S {
                    fn a(&self);
                }
            ),
            "`a` must answer with `Result<…, E>`",
        );
        refused(
            quote!(
                trait S {
                    fn a(&self) -> u32;
                }
            ),
            "`a` must answer with `Result<…, E>`",
        );
        refused(
            quote!(
                trait S {
                    fn a(&self) -> Result<u32>;
                }
            ),
            "`a` must answer with `Result<…, E>`",
        );
        refused(
            quote!(
                trait S {
                    fn a(&self) -> io::Result<u32>;
                }
            ),
            "`a` must answer with `Result<…, E>`",
        );
        refused(
            quote!(
                trait S {
                    fn a(&self) -> Result<u32, F>;
                }
            ),
            "one error type for all methods",
        );
    }

    #[test]
    fn methods_with_one_name_or_one_hash_are_refused() {
        refused(
            quote!(
                trait S {
                    fn a(&self) -> Result<(), E>;
                    fn a(&self) -> Result<u8, E>;
                }
            ),
            "the method `a` is there twice",
        );
        // Known collisions of 32-bit FNV-1a.
        assert_eq!(method_id("costarring"), method_id("liquid"));
        refused(
            quote!(
                trait S {
                    fn costarring(&self) -> Result<(), E>;
                    fn liquid(&self) -> Result<(), E>;
                }
            ),
            "`costarring` and `liquid` have the same 32-bit hash",
        );
    }

    #[test]
    fn arguments_that_cannot_travel_are_refused() {
        refused(
            quote!(
                trait S {
                    fn a(&self, b: &str) -> Result<(), E>;
                }
            ),
            "an argument is an owned value",
        );
        refused(
            quote!(
                trait S {
                    fn a(&self, b: impl Copy) -> Result<(), E>;
                }
            ),
            "one type that both sides know",
        );
        refused(
            quote!(
                trait S {
                    fn a(&self, (b, c): (u8, u8)) -> Result<(), E>;
                }
            ),
            "an argument is a plain name",
        );
        refused(
            quote!(
                trait S {
                    fn a(&self, mut b: u8) -> Result<(), E>;
                }
            ),
            "an argument is a plain name",
        );
        refused(
            quote!(
                trait S {
                    fn a(&self, #[other] b: u8) -> Result<(), E>;
                }
            ),
            "only #[serde(…)]",
        );
    }

    #[test]
    fn what_is_no_method_of_a_service_is_refused() {
        refused(
            quote!(
                trait S {}
            ),
            "at least one method",
        );
        refused(
            quote!(
                trait S {
                    const A: u8;
                    fn a(&self) -> Result<(), E>;
                }
            ),
            "a service has only methods",
        );
        refused(
            quote!(
                trait S {
                    type A;
                    fn a(&self) -> Result<(), E>;
                }
            ),
            "a service has only methods",
        );
        refused(
            quote!(
                trait S {
                    fn a(&self) -> Result<(), E> {
                        Ok(())
                    }
                }
            ),
            "`a` must not have a body",
        );
        refused(
            quote!(
                trait S {
                    unsafe fn a(&self) -> Result<(), E>;
                }
            ),
            "`unsafe` cannot be kept there",
        );
        refused(
            quote!(
                unsafe trait S {
                    fn a(&self) -> Result<(), E>;
                }
            ),
            "a service is not unsafe",
        );
        refused(
            quote!(
                trait S {
                    fn with_timeout(&self) -> Result<(), E>;
                }
            ),
            "a function that every client has",
        );
        refused(
            quote!(
                trait S {
                    #[idempotent(yes)]
                    fn a(&self) -> Result<(), E>;
                }
            ),
            "#[idempotent] takes no arguments",
        );
        refused(
            quote!(
                struct S;
            ),
            "#[service] stands on a trait",
        );
    }

    #[test]
    fn the_attribute_names_what_is_missing_unknown_or_wrong() {
        let good = quote!(
            trait S {
                fn a(&self) -> Result<(), E>;
            }
        );
        let with = |attributes| faults_with(attributes, good.clone()).join("\n");
        assert!(with(quote!(error = E)).contains("`name` is missing"));
        assert!(with(quote!(name = "s")).contains("`error` is missing"));
        assert!(with(quote!(name = "s", error = E, more = 1)).contains("unknown key"));
        for bad in ["", "A", "a_b", "-a", "a-", "0a"] {
            assert!(with(quote!(name = #bad, error = E)).contains("is not a name"), "{bad}");
        }
    }

    #[test]
    fn every_fault_is_shown_at_once() {
        let found = faults(quote!(
            trait S<T> {
                fn a(self) -> u8;
                fn b(&self, x: &str) -> Result<(), E>;
            }
        ));
        assert_eq!(found.len(), 4, "{found:?}");
    }
}
