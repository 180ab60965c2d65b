// Health of the first member, for mongosh: exit code 0 when the set has a primary. The set is made
// when there is none. Repeating it changes nothing: a member of a set is left alone, and MongoDB
// refuses to begin a new set with members that belong to one.
const members = ["mongo1", "mongo2", "mongo3"];

if (!db.hello().setName) {
  rs.initiate({
    _id: "rs0",
    members: members.map((name, number) => ({ _id: number, host: `${name}:27017` })),
    // Half of the usual time until a dead primary is replaced; hosts far apart need the usual 10000.
    settings: { electionTimeoutMillis: 5000 },
  });
}

quit(db.hello().primary ? 0 : 1);
