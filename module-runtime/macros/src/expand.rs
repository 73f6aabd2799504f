//! What `#[service]` generates: the trait as its implementors see it, `…Client`, `…Server`, and, hidden, one structure of
//! arguments per method.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};

use crate::service::{Form, Method, Repeat, Service};

/// The code for a service.
pub fn service(service: &Service) -> TokenStream {
    let parts = [definition(service), client(service), server(service)];
    let hidden = [arguments(service), schema(service), client_impl(service), server_impl(service)];
    quote! {
        #(#parts)*
        const _: () = {
            use ::module_runtime::__private as __rt;
            #(#hidden)*
        };
    }
}

/// The trait. An async function becomes one whose future may move between threads; implementors still write `async fn`.
fn definition(service: &Service) -> TokenStream {
    let Service { attributes, visibility, ident, supertraits, error, .. } = service;
    let more = if supertraits.is_empty() { quote!() } else { quote!(+ #supertraits) };
    let methods = service.methods.iter().map(|method| {
        let Method { attributes, ident, result, .. } = method;
        let arguments = signature(method);
        let output = quote!(::core::result::Result<#result, #error>);
        let output = match method.form {
            Form::Plain => output,
            Form::Async => quote!(impl ::core::future::Future<Output = #output> + ::core::marker::Send),
        };
        quote!(#(#attributes)* fn #ident(&self, #arguments) -> #output;)
    });
    quote! {
        #(#attributes)*
        #visibility trait #ident: ::core::marker::Send + ::core::marker::Sync + 'static #more {
            #(#methods)*
        }
    }
}

fn signature(method: &Method) -> TokenStream {
    let names = method.arguments.iter().map(|it| &it.ident);
    let kinds = method.arguments.iter().map(|it| &it.kind);
    quote!(#(#names: #kinds),*)
}

fn names(service: &Service) -> (syn::Ident, syn::Ident) {
    (format_ident!("{}Client", service.ident), format_ident!("{}Server", service.ident))
}

fn arguments_ident(method: &Method) -> syn::Ident {
    format_ident!("__Arguments_{}", method.name)
}

fn constant_ident(method: &Method) -> syn::Ident {
    format_ident!("__METHOD_{}", method.name)
}

fn client(service: &Service) -> TokenStream {
    let (client, _) = names(service);
    let visibility = &service.visibility;
    let documentation =
        format!("Calls the service `{}` of whichever worker answers it. Clones are cheap.", service.name);
    quote! {
        #[doc = #documentation]
        #[derive(Clone, Debug)]
        #visibility struct #client {
            caller: ::module_runtime::Caller,
        }
    }
}

fn server(service: &Service) -> TokenStream {
    let (_, server) = names(service);
    let (visibility, ident) = (&service.visibility, &service.ident);
    let documentation =
        format!("Answers calls of the service `{}` with an implementation of [`{ident}`].", service.name);
    quote! {
        #[doc = #documentation]
        #visibility struct #server<__Implementation> {
            implementation: ::std::sync::Arc<__Implementation>,
        }
    }
}

/// One structure per method: its fields are the method's arguments.
fn arguments(service: &Service) -> TokenStream {
    let structures = service.methods.iter().map(|method| {
        let ident = arguments_ident(method);
        let fields = method.arguments.iter().map(|argument| {
            let (attributes, ident, kind) = (&argument.attributes, &argument.ident, &argument.kind);
            quote!(#(#attributes)* #ident: #kind)
        });
        let constant = constant_ident(method);
        let name = &method.name;
        let repeat = match method.repeat {
            Repeat::AtMostOnce => quote!(),
            Repeat::Idempotent => quote!(.idempotent()),
        };
        quote! {
            #[derive(__rt::serde::Serialize, __rt::serde::Deserialize)]
            #[serde(crate = "::module_runtime::__private::serde")]
            #[allow(non_camel_case_types)]
            struct #ident { #(#fields),* }

            #[allow(non_upper_case_globals)]
            const #constant: &::module_runtime::Method = &::module_runtime::Method::new(#name) #repeat;
        }
    });
    quote!(#(#structures)*)
}

/// The fingerprint over all methods, in the order of their names: moving a method changes nothing.
fn schema(service: &Service) -> TokenStream {
    let error = &service.error;
    let mut methods: Vec<&Method> = service.methods.iter().collect();
    methods.sort_by(|a, b| a.name.cmp(&b.name));
    let methods = methods.into_iter().map(|method| {
        let (name, arguments, result) = (&method.name, arguments_ident(method), &method.result);
        quote!(.method::<#arguments, #result, #error>(#name))
    });
    quote! {
        fn __fingerprint() -> u64 {
            __rt::Schema::new() #(#methods)* .fingerprint()
        }
    }
}

fn client_impl(service: &Service) -> TokenStream {
    let (client, _) = names(service);
    let (name, error) = (&service.name, &service.error);
    let methods = service.methods.iter().map(|method| {
        let (ident, result) = (&method.ident, &method.result);
        let documentation = method.attributes.iter().filter(|it| it.path().is_ident("doc"));
        let (signature, structure, constant) = (signature(method), arguments_ident(method), constant_ident(method));
        let fields = method.arguments.iter().map(|it| &it.ident);
        quote! {
            #(#documentation)*
            ///
            /// # Errors
            /// The service's own error, or why the call has no answer.
            #[allow(clippy::too_many_arguments)]
            pub async fn #ident(
                &self, #signature
            ) -> ::core::result::Result<#result, ::module_runtime::CallError<#error>> {
                self.caller.call(#constant, &#structure { #(#fields),* }).await
            }
        }
    });
    quote! {
        impl ::module_runtime::ServiceClient for #client {
            const SERVICE: &'static str = #name;

            fn fingerprint() -> u64 {
                __fingerprint()
            }

            fn new(caller: ::module_runtime::Caller) -> Self {
                Self { caller }
            }
        }

        impl #client {
            /// The same client with calls that wait at most this long.
            #[must_use]
            pub fn with_timeout(&self, timeout: ::core::time::Duration) -> Self {
                Self { caller: self.caller.with_timeout(timeout) }
            }

            /// The same client with calls that wait until then.
            #[must_use]
            pub fn with_deadline(&self, deadline: ::module_runtime::Deadline) -> Self {
                Self { caller: self.caller.with_deadline(deadline) }
            }

            /// The same client with calls that wait as long as it takes, or as the call that they are made in may take.
            #[must_use]
            pub fn without_deadline(&self) -> Self {
                Self { caller: self.caller.without_deadline() }
            }

            /// The same client with calls that carry these tags instead of those of the call that they are made in.
            #[must_use]
            pub fn with_tags(&self, tags: ::module_runtime::Tags) -> Self {
                Self { caller: self.caller.with_tags(tags) }
            }

            #(#methods)*
        }
    }
}

fn server_impl(service: &Service) -> TokenStream {
    let (_, server) = names(service);
    let (name, ident) = (&service.name, &service.ident);
    let arms = service.methods.iter().map(|method| {
        let (id, structure, constant, method_ident) =
            (method.id, arguments_ident(method), constant_ident(method), &method.ident);
        let fields: Vec<_> = method.arguments.iter().map(|it| &it.ident).collect();
        let pattern = quote!(#structure { #(#fields),* });
        match method.form {
            Form::Async => quote! {
                #id => __call.answer(#constant, |#pattern| async move {
                    #ident::#method_ident(&*__implementation, #(#fields),*).await
                }).await,
            },
            Form::Plain => quote! {
                #id => __call.answer_now(#constant, |#pattern| #ident::#method_ident(&*__implementation, #(#fields),*)),
            },
        }
    });
    quote! {
        impl<__Implementation: #ident> #server<__Implementation> {
            /// Answers with this implementation.
            pub fn new(implementation: __Implementation) -> Self {
                Self { implementation: ::std::sync::Arc::new(implementation) }
            }

            /// Answers with an implementation that others hold too.
            pub fn shared(implementation: ::std::sync::Arc<__Implementation>) -> Self {
                Self { implementation }
            }
        }

        impl<__Implementation> ::core::clone::Clone for #server<__Implementation> {
            fn clone(&self) -> Self {
                Self { implementation: ::std::sync::Arc::clone(&self.implementation) }
            }
        }

        impl<__Implementation> ::core::fmt::Debug for #server<__Implementation> {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                f.write_str(::core::stringify!(#server))
            }
        }

        impl<__Implementation: #ident> ::module_runtime::ServiceServer for #server<__Implementation> {
            const SERVICE: &'static str = #name;

            fn fingerprint() -> u64 {
                __fingerprint()
            }

            fn answer(
                self,
                __call: ::module_runtime::Incoming,
            ) -> impl ::core::future::Future<Output = ()> + ::core::marker::Send + 'static {
                let __implementation = self.implementation;
                async move {
                    match __call.method() {
                        #(#arms)*
                        _ => __call.unknown_method(),
                    }
                }
            }
        }
    }
}
