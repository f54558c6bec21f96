/** Both sides of `/mlstore/listing/1`, as hosts use them; the parts are in registry/. */
export {
  type CardLike,
  compareListings,
  createListingBook,
  type Entry,
  fits,
  type ListingBook,
  type ListingQuery,
  type ReadCard,
} from './registry/book.ts'
export {
  askRegistry,
  type ClientOptions,
  type PutReport,
  type RegistryClient,
  registryClient,
} from './registry/client.ts'
export type { FoundListing, FoundListings, Lie } from './registry/merge.ts'
export {
  type Quota,
  type RegistryServer,
  type ServeOptions,
  serveRegistry,
} from './registry/server.ts'
export { LISTING_PROTOCOL } from './registry/wire.ts'
