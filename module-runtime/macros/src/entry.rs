//! `#[main]`: the program's entry.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{FnArg, ItemFn, LitInt, LitStr};

const FORM: &str = "write `async fn main(worker: Worker) -> Result<(), module_runtime::Error>`";

/// The code for the entry.
pub fn main(attributes: TokenStream, item: TokenStream) -> syn::Result<TokenStream> {
    let function: ItemFn =
        syn::parse2(item).map_err(|e| syn::Error::new(e.span(), format!("#[main] stands on a function: {FORM}")))?;
    let runtime = runtime(attributes)?;
    let signature = &function.sig;
    if signature.asyncness.is_none() {
        return Err(syn::Error::new_spanned(signature.fn_token, format!("the entry is async: {FORM}")));
    }
    if !signature.generics.params.is_empty() {
        return Err(syn::Error::new_spanned(&signature.generics, format!("the entry is not generic: {FORM}")));
    }
    let arguments: Vec<&FnArg> = signature.inputs.iter().collect();
    let [FnArg::Typed(_)] = arguments[..] else {
        return Err(syn::Error::new_spanned(&signature.ident, format!("the entry takes the worker: {FORM}")));
    };
    let ident = &signature.ident;
    Ok(quote! {
        fn #ident() -> ::std::process::ExitCode {
            #function
            ::module_runtime::__private::run(#runtime, #ident)
        }
    })
}

fn runtime(attributes: TokenStream) -> syn::Result<TokenStream> {
    let (mut flavor, mut threads) = (None::<LitStr>, None::<LitInt>);
    let parser = syn::meta::parser(|meta| {
        if meta.path.is_ident("flavor") {
            flavor = Some(meta.value()?.parse()?);
        } else if meta.path.is_ident("worker_threads") {
            threads = Some(meta.value()?.parse()?);
        } else {
            return Err(
                meta.error("unknown key: write #[main], or #[main(flavor = \"multi_thread\", worker_threads = 2)]")
            );
        }
        Ok(())
    });
    syn::parse::Parser::parse2(parser, attributes)?;
    match (flavor.as_ref().map(LitStr::value).as_deref(), threads) {
        (None | Some("current_thread"), None) => Ok(quote!(::module_runtime::__private::Flavor::CurrentThread)),
        (None | Some("current_thread"), Some(threads)) => {
            Err(syn::Error::new_spanned(threads, "worker_threads goes with flavor = \"multi_thread\""))
        }
        (Some("multi_thread"), None) => Ok(quote!(::module_runtime::__private::Flavor::MultiThread(None))),
        (Some("multi_thread"), Some(threads)) => {
            if threads.base10_parse::<usize>()? == 0 {
                return Err(syn::Error::new_spanned(threads, "at least one thread is needed"));
            }
            Ok(quote!(::module_runtime::__private::Flavor::MultiThread(::core::option::Option::Some(#threads))))
        }
        (Some(_), _) => {
            Err(syn::Error::new_spanned(flavor, "flavor is \"current_thread\" (the default) or \"multi_thread\""))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(attributes: TokenStream, item: TokenStream, expected: &str) {
        let found = main(attributes, item).map(|it| it.to_string()).unwrap_err().to_string();
        assert!(found.contains(expected), "{found:?} does not say {expected:?}");
    }

    #[test]
    fn what_is_no_entry_is_refused() {
        refused(
            quote!(),
            quote!(
                struct S;
            ),
            "#[main] stands on a function",
        );
        refused(
            quote!(),
            quote!(
                fn main(worker: Worker) {}
            ),
            "the entry is async",
        );
        refused(
            quote!(),
            quote!(
                async fn main() {}
            ),
            "the entry takes the worker",
        );
        refused(
            quote!(),
            quote!(
                async fn main(a: A, b: B) {}
            ),
            "the entry takes the worker",
        );
        refused(
            quote!(),
            quote!(
                async fn main(&self) {}
            ),
            "the entry takes the worker",
        );
        refused(
            quote!(),
            quote!(
                async fn main<T>(worker: T) {}
            ),
            "the entry is not generic",
        );
    }

    #[test]
    fn the_runtime_is_chosen_by_its_known_names() {
        let good = quote!(
            async fn main(worker: Worker) -> Result<(), Error> {
                Ok(())
            }
        );
        let choose = |attributes| main(attributes, good.clone()).map(|it| it.to_string()).unwrap();
        assert!(choose(quote!()).contains("CurrentThread"));
        assert!(choose(quote!(flavor = "current_thread")).contains("CurrentThread"));
        assert!(choose(quote!(flavor = "multi_thread")).contains("MultiThread (None)"));
        assert!(choose(quote!(flavor = "multi_thread", worker_threads = 3)).contains("Some (3)"));
        refused(quote!(flavor = "fast"), good.clone(), "flavor is \"current_thread\"");
        refused(quote!(worker_threads = 3), good.clone(), "goes with flavor");
        refused(quote!(flavor = "multi_thread", worker_threads = 0), good.clone(), "at least one thread");
        refused(quote!(threads = 3), good, "unknown key");
    }
}
