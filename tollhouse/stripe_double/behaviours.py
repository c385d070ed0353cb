"""Which behaviours of Stripe the double models, each with the page that describes it, and which it does not."""

BEHAVIOURS: tuple[tuple[str, str], ...] = (
    ("unknown, misspelt, missing and mistyped parameters are refused", "types of the pinned SDK, stripe.params"),
    ("metadata: 50 keys, 40 characters a key without brackets, 500 a value", "https://docs.stripe.com/metadata"),
    ("an idempotency key replays status and body, errors with 500 included", "https://docs.stripe.com/api/idempotent_requests"),
    ("a key with other parameters is an idempotency_error", "https://docs.stripe.com/api/idempotent_requests"),
    ("keys have at most 255 characters and are kept for 24 hours", "https://docs.stripe.com/api/idempotent_requests"),
    ("validation failures and rate limits are not kept under a key", "https://docs.stripe.com/api/idempotent_requests"),
    ("429 over the rate, with a reason header; lock_timeout", "https://docs.stripe.com/rate-limits"),
    ("lists: newest first, 10 unless told, 100 at most, cursors, url, has_more", "https://docs.stripe.com/api/pagination"),
    ("customers and invoices cannot be listed by metadata", "https://docs.stripe.com/api/invoices/list"),
    ("draft, open, paid, void, uncollectible and the moves between them", "https://docs.stripe.com/invoicing/integration/workflow-transitions"),
    ("lines change only in a draft", "https://docs.stripe.com/api/invoiceitems/create"),
    ("250 lines an invoice", "https://docs.stripe.com/changelog/2016-02-22/no-more-than-250-invoice-items"),
    ("lines added and removed in bulk, all or none", "https://docs.stripe.com/invoicing/bulk-update-line-item"),
    ("the first 10 lines within an invoice, the rest by its url", "https://docs.stripe.com/api/invoices/object"),
    ("tax by rates a line, inclusive or exclusive, or by given amounts", "https://docs.stripe.com/billing/taxes/tax-rates"),
    ("negative lines lower the total; a negative total goes to the balance", "https://docs.stripe.com/billing/customer/balance"),
    ("the customer balance is applied at finalising, and comes back at voiding", "https://docs.stripe.com/billing/customer/balance"),
    ("below the minimum charge an invoice is paid without cash", "docstring of stripe.Invoice; https://docs.stripe.com/currencies#minimum-and-maximum-charge-amounts"),
    ("zero-decimal, whole-only and three-decimal currencies", "https://docs.stripe.com/currencies"),
    ("numbers may be set, each once", "docstring of stripe.params.InvoiceCreateParams"),
    ("send only with send_invoice; pay by a method, out of band, or declined", "https://docs.stripe.com/api/invoices/pay"),
    ("invoice payments by payment intent", "https://docs.stripe.com/api/invoice-payment/list"),
    ("credit notes: first what remains, then a split that must be whole", "https://docs.stripe.com/billing/invoices/credit-notes"),
    ("disputes come as events with a payment intent", "https://docs.stripe.com/api/disputes/object"),
    ("events of 30 days, by type, wildcard and time", "https://docs.stripe.com/webhooks/process-undelivered-events"),
    ("webhook signatures over time and raw body", "https://docs.stripe.com/webhooks#verify-manually"),
    ("test clocks: forward only, customers go with their clock", "https://docs.stripe.com/billing/testing/test-clocks/api-advanced-usage"),
    ("meter events: whole values, 35 days back, 5 minutes ahead, identifiers for 24 hours", "https://docs.stripe.com/billing/subscriptions/usage-based/recording-usage-api"),
    ("meter events are cancelled within 24 hours; negative values correct later", "https://docs.stripe.com/billing/subscriptions/usage-based/meters/configure"),
    ("meter event summaries by hour, day or in one", "https://docs.stripe.com/api/billing/meter-event-summary/list"),
)  # fmt: skip
"""(behaviour, where it is described)."""

NOT_MODELLED: tuple[str, ...] = (
    "search (its results lag, so nothing that must not happen twice may rest on it)",
    "prices, products, subscriptions, coupons, pending invoice items, Stripe Tax",
    "payment intents, charges and refunds as objects of their own",
    "automatic advancement and dunning, e-mails, PDF files, hosted pages",
    "the lag of meter event summaries, and the limit of one call at a time for a customer and meter",
    "API v2",
)
