// Calls every function of gophercloud's package for Zaqar, with a token of Keystone, and prints the names of those that worked.
//
// The account is in OS_*, as `openstack` has it. A failure ends the program with the name of the call.
package main

import (
	"fmt"
	"os"
	"path"
	"strings"

	"github.com/gophercloud/gophercloud"
	"github.com/gophercloud/gophercloud/openstack"
	"github.com/gophercloud/gophercloud/openstack/messaging/v2/claims"
	"github.com/gophercloud/gophercloud/openstack/messaging/v2/messages"
	"github.com/gophercloud/gophercloud/openstack/messaging/v2/queues"
	"github.com/gophercloud/gophercloud/pagination"
)

const (
	queue    = "jobs"
	clientID = "3381af92-2b9e-11e3-b191-71861300734c"
)

func main() {
	client, observer := connect(clientID), connect("4472b0a3-3c9f-42f4-8292-82972411845d")
	callQueues(client)
	callMessages(client, observer)
	callClaims(client)
	done("queues.Delete", queues.Delete(client, queue).ExtractErr())
}

func connect(id string) *gophercloud.ServiceClient {
	account, err := openstack.AuthOptionsFromEnv()
	must("AuthOptionsFromEnv", err)
	provider, err := openstack.AuthenticatedClient(account)
	must("AuthenticatedClient", err)
	region := gophercloud.EndpointOpts{Region: os.Getenv("OS_REGION_NAME")}
	client, err := openstack.NewMessagingV2(provider, id, region)
	must("NewMessagingV2", err)
	return client
}

func callQueues(client *gophercloud.ServiceClient) {
	made := queues.CreateOpts{
		QueueName:         queue,
		DefaultMessageTTL: 600,
		Extra:             map[string]interface{}{"colour": "blue"},
	}
	done("queues.Create", queues.Create(client, made).ExtractErr())
	must("queues.Create again", queues.Create(client, made).ExtractErr())

	shown, err := queues.Get(client, queue).Extract()
	done("queues.Get", err)
	expect("metadata", shown.DefaultMessageTTL == 600 && shown.Extra["colour"] == "blue")

	changed, err := queues.Update(client, queue, queues.BatchUpdateOpts{
		{Op: queues.ReplaceOp, Path: "/metadata/colour", Value: "red"},
	}).Extract()
	done("queues.Update", err)
	expect("changed metadata", changed.Extra["colour"] == "red")

	var names []string
	err = queues.List(client, queues.ListOpts{Limit: 1, Detailed: true}).EachPage(
		func(page pagination.Page) (bool, error) {
			found, err := queues.ExtractQueues(page)
			for _, each := range found {
				names = append(names, each.Name)
			}
			return true, err
		})
	done("queues.List", err)
	expect("the listed queues", strings.Join(names, " ") == queue)

	shared, err := queues.Share(client, queue, queues.ShareOpts{
		Paths:   []queues.SharePath{queues.PathMessages},
		Methods: []queues.ShareMethod{queues.MethodGet},
	}).Extract()
	done("queues.Share", err)
	expect("the shared path", strings.Join(shared.Paths, " ") == "/v2/queues/jobs/messages")
}

func callMessages(client, observer *gophercloud.ServiceClient) {
	ids := post(client, 5)
	done("messages.Create", nil)

	stats, err := queues.GetStats(client, queue).Extract()
	done("queues.GetStats", err)
	expect("five free messages", stats.Free == 5 && stats.Total == 5)

	pages, err := messages.List(observer, queue, messages.ListOpts{Limit: 2}).AllPages()
	must("messages.List", err)
	all, err := messages.ExtractMessages(pages)
	done("messages.List", err)
	expect("all messages in order", len(all) == 5 && all[4].ID == ids[4])

	one, err := messages.Get(client, queue, ids[1]).Extract()
	done("messages.Get", err)
	expect("the body", one.Body["number"] == float64(1))

	two, err := messages.GetMessages(client, queue, messages.GetMessagesOpts{IDs: ids[:2]}).Extract()
	done("messages.GetMessages", err)
	expect("two messages", len(two) == 2)

	done("messages.Delete", messages.Delete(client, queue, ids[0], messages.DeleteOpts{}).ExtractErr())
	several := messages.DeleteMessagesOpts{IDs: ids[1:3]}
	done("messages.DeleteMessages", messages.DeleteMessages(client, queue, several).ExtractErr())

	popped, err := messages.PopMessages(client, queue, messages.PopMessagesOpts{Pop: 1}).Extract()
	done("messages.PopMessages", err)
	expect("the oldest message", len(popped) == 1 && popped[0].ID == ids[3])

	all4 := queues.PurgeOpts{ResourceTypes: []queues.PurgeResource{queues.ResourceMessages}}
	done("queues.Purge", queues.Purge(client, queue, all4).ExtractErr())
}

func callClaims(client *gophercloud.ServiceClient) {
	post(client, 2)
	made := claims.Create(client, queue, claims.CreateOpts{TTL: 60, Grace: 60, Limit: 1})
	claimed, err := made.Extract()
	done("claims.Create", err)
	expect("one message", len(claimed) == 1 && claimed[0].Body["number"] == float64(0))
	claim := path.Base(made.Header.Get("Location"))

	done("claims.Update", claims.Update(client, queue, claim, claims.UpdateOpts{TTL: 120, Grace: 60}).ExtractErr())
	held, err := claims.Get(client, queue, claim).Extract()
	done("claims.Get", err)
	expect("the renewed claim", held.TTL == 120 && len(held.Messages) == 1)

	message := strings.Split(path.Base(claimed[0].Href), "?")[0]
	must("messages.Delete with a claim", messages.Delete(
		client, queue, message, messages.DeleteOpts{ClaimID: claim}).ExtractErr())
	done("claims.Delete", claims.Delete(client, queue, claim).ExtractErr())
}

// post posts messages with the numbers from 0; their ids.
func post(client *gophercloud.ServiceClient, count int) []string {
	var batch messages.BatchCreateOpts
	for number := 0; number < count; number++ {
		body := map[string]interface{}{"number": number}
		batch = append(batch, messages.CreateOpts{TTL: 300, Body: body})
	}
	posted, err := messages.Create(client, queue, batch).Extract()
	must("messages.Create", err)
	var ids []string
	for _, href := range posted.Resources {
		ids = append(ids, path.Base(href))
	}
	return ids
}

func done(call string, err error) {
	must(call, err)
	fmt.Println(call)
}

func must(call string, err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, call+":", err)
		os.Exit(1)
	}
}

func expect(what string, isSo bool) {
	if !isSo {
		fmt.Fprintln(os.Stderr, "not as expected:", what)
		os.Exit(1)
	}
}
